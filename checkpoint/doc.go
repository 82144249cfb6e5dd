// Package checkpoint reads and writes the files that weights come in: what torch.save writes, and
// safetensors. It knows names, shapes and dtypes, and nothing of models.
//
//	f, err := checkpoint.Open("ckpt.pt")
//	…
//	defer f.Close()
//	for _, name := range f.Names() {
//		info, _ := f.Info(name)                 // dtype, shape, …
//		w, err := f.Tensor(name)                // a view of the mapped file where that is possible
//	}
//	args, ok := f.Value("model_args")           // map[string]any
//	err = f.Verify(progress)                    // damage (CRC-32), NaN and Inf
//
// A checkpoint is a file from a stranger: nothing in it is ever run, nothing is allocated because
// the file says so, and what is wrong with it is an error that names file, tensor, got and want.
//
// The way of a file is one line: Open finds its row in the table of formats, which leads to
// internal/torch, internal/safetensors or internal/gguf, and those make tensors of internal/store of its bytes.
// Package pickle decodes what torch.save wrote beside them. Another format is another row, and a
// package beside those two.
//
// # What is read
//
// The files named are in testdata/torch, made by testdata/make.py, and in testdata/formats.
//
//	torch.save as zip (since PyTorch 1.6), pickle protocols 2 to 5    TestTorch: zip_protocol*.pt; TestFormats
//	torch.save as legacy files, the same protocols                    TestTorch: legacy_protocol*.pt; TestLegacy
//	weights of f64, f32, f16 and bf16                                 TestTorch: *_views*.pt; TestFormats
//	integer, bool, complex, float8 tensors beside them                TestTorch: integers.pt, rare.pt, complex128.pt
//	quantized, sparse, nested, meta tensors: listed, not read         TestSpecial
//	any strides and offsets, expanded, empty and 0-dim tensors        TestTorch: *_views*.pt
//	shared storages, tied tensors                                     TestTied; TestFormats: one_storage.pt
//	parameters, buffers, tensors with attributes                      TestTorch: parameters.pt
//	tensors saved from a GPU                                          TestTorch: cuda.pt
//	state_dicts with _metadata, alone or under a key                  TestTorch: bare.pth, bare_legacy.pth, module.pt
//	weights under other keys, in nested dicts and lists, Key          TestKey, TestElsewhere
//	values beside: numbers, texts, bytes, dicts, lists, sets          TestTorch: values_*.pt; TestValueTypes
//	numpy scalars, dtypes, devices, Namespaces, paths                 TestTorch: values_*.pt
//	numpy arrays, random generators, dates: a note of what they are   TestTorch: more_*.pt, arrays.pt; TestTypes
//	an optimizer's state beside: never touched                        TestTorch: optimizer.pt; TestFormats: with_optimizer.pt
//	big-endian zip files                                              TestTorch: big_endian.pt
//	zip64, unaligned records, files without checksums or byteorder    TestTorch: zip64.pt, unaligned.pt, no_crc.pt, no_byteorder.pt
//	archives written again: other roots, descriptors, comments        TestArchives
//	safetensors, with metadata and tied names, all but F4 and F6      TestTorch: plain, types and tied.safetensors
//	shards with their index, of safetensors or torch.save             TestTorch: *.index.json; TestShards
//	GGUF, version 2 and 3: metadata of all types, any alignment,      TestGGUFMetadata
//	   f32, f16, bf16 and twelve formats of blocks                    TestGGUFBlocks
//	safetensors whose bytes are blocks, by the metadata "quantization" TestSafetensorsBlocks, TestWriteGGUF
//	links, embedded files, files that can't be mapped                 TestNotFiles, TestOpenBytes, TestTorch: …/read
//
// Tensors are views of the mapping where the file has their elements as the kernels take them,
// legacy files too (TestViews). A tensor is copied if it is not contiguous, if it is f64 (to f32),
// if its bytes are in the other order, or if this machine can't read it where it lies. Without a
// mapping (wasm, 32-bit machines with larger files, Unmapped) each tensor is read when it is asked
// for.
//
// # What is written
//
//	.pt of WritePT and Convert: torch.load reads it, mmap too         TestWithPyTorch (where PyTorch is installed)
//	   "model", "model_args", "config" …; tied tensors once           TestWrite, TestConvert
//	   records at multiples of 64 bytes, with checksums               TestAlignment
//	.safetensors with metadata; tied names in it                      TestWrite, TestConvert, TestWithPyTorch
//	.gguf, version 3, with metadata                                   TestWriteGGUF
//	blocks of quantized weights, in .gguf and .safetensors            TestWriteGGUF, TestQuantizeAsReference
//	bf16 and f16, rounded to nearest even                             TestHalf, TestConvertDType, TestWithPyTorch
//	values beside the tensors, except what holds tensors itself       TestBeside
//	whole or not at all: a temporary file, fsync, rename              TestWriteErrors
//
// # What is refused
//
// Open refuses a file, Tensor a tensor; Verify finds the rest and tells all of it at once.
//
//	classes outside the table, which the error names; none is run     TestHostile: os_system.pt, eval.pt, whole_module.pt
//	pickles that are cut short, too deep, contain themselves, want    TestHostile: deep_pickle.pt, garbage_pickle.pt;
//	   more memory than 64 MB + 400 times their length, or are noise     TestHostile and TestBudget of package pickle;
//	   (what they call, as much again; nothing else bounds them)         TestLarge, TestCalls
//	storages that are missing, short, negative, huge, overlapping     TestHostile: *_storage.pt; TestOverlap, TestLegacy
//	tensors outside their storage; multitudes that share one          TestHostile, TestStrides, TestSharing
//	files cut short anywhere                                          TestTruncated; TestHostile: truncated*.pt
//	damaged records: CRC-32 of zip files, the others have none        TestHostile: bit_flip.pt; TestFlipped
//	NaN and Inf; leave Verify out to take them                        TestHostile: nan.pt; TestVerify, TestFinite
//	integers where weights are asked for                              TestHostile: int_weights.pt
//	TorchScript, lone tensors, dicts without weights                  TestHostile
//	compressed archives, entries of one name, unknown byte orders     TestArchives
//	legacy files of big-endian machines, and contradictory ones       TestLegacy
//	safetensors headers that don't fit the data, or are no UTF-8      TestHostileSafetensors
//	indexes that lead out of their folder or to what isn't there      TestShards
//	GGUF whose counts, lengths, types or offsets don't fit the file,  TestHostileGGUF, TestRefusedGGUF, TestBrokenGGUF
//	   of another byte order, split, or with scales that are NaN
//	Git LFS pointers, HTML pages, HDF5, gzip …, named as such   TestNotCheckpoints; TestHostile: lfs_pointer.pt
//	folders, pipes, devices, unreadable files                         TestNotFiles
//
// The fuzz targets FuzzPickle, FuzzZip, FuzzLegacy, FuzzSafetensors and FuzzGGUF, FuzzDecode of
// package pickle, and FuzzReadMeta of package tokenizer assert that no input makes a panic, or
// allocates more than its length accounts for.
//
// # What gopickle gets wrong
//
// gopickle v0.2.0 decodes the pickles, and trusts them. A stream is walked by a closed table of opcodes
// before gopickle sees it (package pickle), which refuses or rewrites what it would stumble over:
//
//	it allocates any length that is declared (BINUNICODE8, LONG4 …)   lengths are checked against the bytes
//	it reads frames into memory, of any size                          frames are left out
//	it panics at LONG1 of no bytes, at DICT of an odd number, at      refused, or rewritten; panics that remain
//	   unhashable members of a set                                    become errors
//	it takes quadratic time for long integers                         at most 255 bytes
//	it cuts integers to an int, on 32-bit machines too                they are handed on as longer ones
//	it resolves some classes without asking FindClass                 class names are marked, so that it asks
//	it formats whole values into errors, which may share parts        classes stand only where classes belong,
//	   of themselves, exponentially often                                and what values are shared is limited
//	values may be nested as deep as the stream is long                200 levels
//
// Each of them is among the inputs of TestHostile in package pickle.
//
// # Files that change while they are mapped
//
// A file that is cut short while it is mapped can't be read any more where its pages are gone: the
// system sends SIGBUS, which ends a program. Open, Tensor, Value, Verify and Convert return
// ErrFileChanged instead (TestShrunk), and so does File.Guard, under which a program reads the elements of
// tensors later on, as a model does that runs. Without it they fault, as they would in any program that maps
// the file; opened Unmapped they are copies. Replacing a file by renaming, as this package writes, never
// disturbs a mapping. Elements that others change in place are read as they are then.
package checkpoint
