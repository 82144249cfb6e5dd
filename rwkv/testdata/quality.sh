#!/bin/sh
# Prints what each format of blocks costs a model, as a table: size, loss and tokens/s, and how far the
# predictions are from the model's own. The texts must be different ones.
#
#   sh rwkv/testdata/quality.sh MODEL TEXT CALIBRATION-TEXT [FORMAT…]
#
# The model of the README's second table is what this saves at step 750 (all of it takes 40 minutes on two busy
# cores):
#
#   go run ./examples/train --data stories/train.jsonl --kind rwkv7 --n_layer 4 --n_embd 256 --n_head 4 \
#     --block_size 128 --batch_size 8 --max_iters 1500 --learning_rate 2e-3 --min_lr 2e-4 --lr_decay_iters 1500
set -eu
model=$(realpath "$1") text=$(realpath "$2") calibration=$(realpath "$3")
shift 3
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
go build -o "$work/" ./examples/quantize ./examples/score
for beside in meta.pkl tokenizer.json; do # which the quantized model needs too
	if [ -e "$(dirname "$model")/$beside" ]; then cp "$(dirname "$model")/$beside" "$work/"; fi
done
row() { # NAME MODEL
	"$work/score" --model "$2" --against "$model" --text "$text" | python3 -c "
import json, sys
a = json.load(sys.stdin)['against']
print('| %s | %.1f MB | %.4f | %.5f | %.1f%% | %.0f |' % (sys.argv[1], a['bytes'] / 1e6, a['loss'], a['kl'], 100 * a['top1'], a['tokens_per_second']))" "$1"
}
echo "| format | size | loss | KL, nats a token | same top-1 | tokens/s |"
echo "|---|---|---|---|---|---|"
row original "$model"
for format in ${*:-q8_0 q6_k q5_k q4_k q5_1 q5_0 q4_1 q4_0}; do
	"$work/quantize" "$model" "$work/$format.safetensors" --format "$format" > /dev/null
	row "$format" "$work/$format.safetensors"
	"$work/quantize" "$model" "$work/$format-c.safetensors" --format "$format" --calibrate "$calibration" > /dev/null
	row "$format, calibrated" "$work/$format-c.safetensors"
	rm "$work/$format.safetensors" "$work/$format-c.safetensors"
done
