#!/bin/sh
# Times llama.cpp and this module in turn on one RWKV-7 of the 0.4B shape with random weights: a token, 16
# sequences together, a prompt of 512, two threads. LLAMA is where llama.cpp's programs are: see llamacpp.py for
# how to build them. On a CPU with AMX whose use a virtual machine forbids, its build for the machine itself
# dies with SIGILL: give cmake -DGGML_NATIVE=OFF and the rest by name, as -DGGML_AVX2=ON -DGGML_FMA=ON
# -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON
# -DGGML_AVX512_BF16=ON.
#
#   LLAMA=llama.cpp/build/bin ROUNDS=3 sh rwkv/testdata/bench_llamacpp.sh bf16 q8_0 q6_k q4_k q4_0
#
# The server, for the same requests as examples/serve:
#
#   llama.cpp/build/bin/llama-server --model rwkv7.gguf --threads 2 --parallel 16 --ctx-size 65536 --port 8081
#   go run ./examples/serve --model rwkv7.gguf --threads 2 --addr 127.0.0.1:8080
set -eu
cd "$(dirname "$0")/../.."
: "${LLAMA:?the folder of llama-bench}"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
go build -o "$work/" ./examples/random ./examples/convert
go test -c -o "$work/rwkv.test" ./rwkv
for format; do
	if [ "$format" = bf16 ]; then
		"$work/random" --size 0.4B "$work/m.pth"
		"$work/convert" "$work/m.pth" "$work/bf16.gguf"
		rm "$work/m.pth"
	else
		"$work/random" --size 0.4B --dtype "$format" "$work/$format.gguf"
	fi
	for _ in $(seq "${ROUNDS:-3}"); do
		(cd rwkv && "$work/rwkv.test" -test.run xxx -test.cpu 2 -test.bench "ReadBandwidth|(Decode|DecodeBatch|Prefill)/kind=rwkv7/weights=$format\$" | grep ^Benchmark)
		"$LLAMA/llama-bench" --model "$work/$format.gguf" --threads 2 --n-prompt 512 --n-gen 64 --repetitions 3 --output md | grep -E 'pp|tg'
		if [ -x "$LLAMA/llama-batched-bench" ]; then
			"$LLAMA/llama-batched-bench" --model "$work/$format.gguf" --threads 2 --ctx-size 8192 -npp 16 -ntg 32 -npl 16 | grep '|'
		fi
	done
	rm "$work/$format.gguf"
done
