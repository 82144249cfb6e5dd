package checkpoint_test

import (
	"fmt"
	"log"

	"microrwkv/checkpoint"
)

func ExampleOpen() {
	f, err := checkpoint.Open("testdata/formats/zip_bf16.pt")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := f.Verify(nil); err != nil { // damage, NaN and Inf
		log.Fatal(err)
	}
	name := f.Names()[0]
	info, _ := f.Info(name)
	fmt.Println(name, info.DType, info.Shape)
	w, err := f.Tensor(name) // a view of the mapped file
	if err != nil {
		log.Fatal(err)
	}
	row := make([]float32, w.Dim(-1))
	w.RowTo(row, 0) // widened to float32
	fmt.Println(len(row), "numbers in a row")
	// Output:
	// transformer.wte.weight bf16 [61 16]
	// 16 numbers in a row
}
