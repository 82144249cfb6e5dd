package rwkv_test

import (
	"context"
	"fmt"
	"log"

	"microrwkv/rwkv"
	"microrwkv/rwkv/demo"
	_ "microrwkv/tokenizer/gpt2"
)

// A text from the embedded model. TopK(1) always takes the likeliest token; Temperature, TopP and
// Seed make other texts.
func Example() {
	model, err := demo.Model() // or rwkv.Open("out/ckpt-500.pt")
	if err != nil {
		log.Fatal(err)
	}
	tok, err := model.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	prompt := "One day"
	fmt.Print(prompt)
	for piece, err := range model.Generate(context.Background(), tok, prompt, rwkv.MaxTokens(28), rwkv.TopK(1)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(piece) // whole UTF-8, as it comes
	}
	// Output: One day, a little girl named Lily went to the park with her mom. They saw a big tree with a big tree. Lily wanted to climb
}

func ExampleModel_Generate() {
	model, err := demo.Model()
	if err != nil {
		log.Fatal(err)
	}
	tok, err := model.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	sentence := ""
	for piece, err := range model.Generate(context.Background(), tok, "Tom and Sue", rwkv.TopK(1), rwkv.StopStrings(".", "!", "?")) {
		if err != nil {
			log.Fatal(err)
		}
		sentence += piece
	}
	fmt.Println(sentence)
	// Output: are friends
}

// The tokens, and how likely the model found each of them.
func ExampleModel_GenerateTokens() {
	model, err := demo.Model()
	if err != nil {
		log.Fatal(err)
	}
	tok, err := model.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	prompt, err := tok.Encode("The little")
	if err != nil {
		log.Fatal(err)
	}
	for token, err := range model.GenerateTokens(context.Background(), prompt, rwkv.MaxTokens(3), rwkv.TopK(1)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%5d %q %.2f\n", token.ID, tok.Decode([]int{token.ID}), token.LogProb)
	}
	// Output:
	// 2576 " girl" -0.55
	//   373 " was" -0.97
	//   523 " so" -0.77
}

func ExampleModel_Forward() {
	model, err := demo.Model()
	if err != nil {
		log.Fatal(err)
	}
	logits, err := model.Forward([]int{3198, 1110, 11}) // "One day,"
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(logits.Shape()) // positions, vocabulary
	last := logits.Row(2)
	best := 0
	for id := range last {
		if last[id] > last[best] {
			best = id
		}
	}
	fmt.Printf("token %d has the largest logit, %.2f\n", best, last[best])
	// Output:
	// [3 50304]
	// token 257 has the largest logit, 12.70
}

func ExampleModel_Score() {
	model, err := demo.Model()
	if err != nil {
		log.Fatal(err)
	}
	tok, err := model.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"Once upon a time, there was a little girl", "Girl little a was there, time a upon once"} {
		ids, err := tok.Encode(text)
		if err != nil {
			log.Fatal(err)
		}
		scores, err := model.Score(ids, nil) // each token's target is the next one
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("loss %.1f over %d tokens\n", scores.Loss, scores.Positions)
	}
	// Output:
	// loss 0.8 over 9 tokens
	// loss 8.6 over 9 tokens
}

// A State is a sequence as a value: it grows, it is copied to try something, it is saved.
func ExampleState() {
	model, err := demo.Model()
	if err != nil {
		log.Fatal(err)
	}
	tok, err := model.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	read := func(s *rwkv.State, text string) {
		ids, err := tok.Encode(text)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := s.Append(ids); err != nil { // the logits after text
			log.Fatal(err)
		}
	}
	write := func(s *rwkv.State) {
		for piece, err := range s.Generate(context.Background(), tok, rwkv.MaxTokens(6), rwkv.TopK(1)) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Print(piece)
		}
		fmt.Println()
	}

	story := model.NewState()
	read(story, "Tom went to the park with his")
	saved, err := story.MarshalBinary() // to a file, say
	if err != nil {
		log.Fatal(err)
	}
	branch := story.Clone()
	read(branch, " dog")
	write(branch)
	write(story)

	again := model.NewState()
	if err := again.UnmarshalBinary(saved); err != nil {
		log.Fatal(err)
	}
	write(again)
	fmt.Println(story.Len() == again.Len(), branch.Len() > story.Len())
	// Output:
	// , Spot. They liked to
	//  mom. They saw a big
	//  mom. They saw a big
	// true true
}

// Sequences that are stepped together; each is as it would be alone.
func ExampleBatch() {
	model, err := demo.Model()
	if err != nil {
		log.Fatal(err)
	}
	tok, err := model.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	batch := model.NewBatch()
	var sequences []*rwkv.Sequence
	for _, prompt := range []string{"The cat", "The dog", "The sun"} {
		ids, err := tok.Encode(prompt)
		if err != nil {
			log.Fatal(err)
		}
		s, err := batch.Add(ids, tok, rwkv.MaxTokens(5), rwkv.TopK(1))
		if err != nil {
			log.Fatal(err)
		}
		sequences = append(sequences, s)
	}
	for batch.Len() > 0 {
		if err := batch.Step(); err != nil {
			log.Fatal(err)
		}
	}
	for _, s := range sequences {
		fmt.Printf("%q\n", s.Text())
	}
	// Output:
	// " and the dog were friends"
	// " said, \"I am"
	// " was shining and the sky"
}
