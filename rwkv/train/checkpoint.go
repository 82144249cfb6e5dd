package train

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"microrwkv/checkpoint"
	"microrwkv/checkpoint/pickle"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// Save writes a checkpoint, as nanoGPT does: the weights under "model" and beside them "optimizer",
// "model_args", "iter_num", "best_val_loss", "config", "variant" for some kinds, and "rng", the state
// of the generator of batches. PyTorch loads it, its AdamW included. The file appears whole or not at
// all. Of a trainer of NewStates' it writes the states alone.
func (t *Trainer) Save(path string) error {
	if t.tuning {
		return t.saveStates(path)
	}
	var model []checkpoint.Named
	params := t.model.Parameters()
	for _, p := range params {
		w := tensor.FromSlice(p.Value, p.Shape...).Weight()
		model = append(model, checkpoint.Named{Name: p.Name, Tensor: w})
		if p.Alias != "" {
			model = append(model, checkpoint.Named{Name: p.Alias, Tensor: w})
		}
	}
	state, err := t.pcg.MarshalBinary()
	if err != nil {
		return err
	}
	values := t.model.ModelArgs()
	values["iter_num"], values["best_val_loss"] = t.iter, t.best
	values["rng"] = hex.EncodeToString(state)
	values["optimizer"] = t.optimizer(params)
	if values["config"], err = t.config(); err != nil {
		return err
	}
	return checkpoint.WritePT(path, model, values)
}

// config returns the options and Config by the names of the flags.
func (t *Trainer) config() (map[string]any, error) {
	b, err := json.Marshal(t.options)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, err
	}
	for k, v := range raw {
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			out[k] = n
			continue
		}
		var x any
		if err := json.Unmarshal(v, &x); err != nil {
			return nil, err
		}
		out[k] = x
	}
	for k, v := range t.Config {
		out[k] = v
	}
	return out, nil
}

// optimizer returns the state_dict of torch.optim.AdamW.
func (t *Trainer) optimizer(params []rwkv.Parameter) map[string]any {
	state := &pickle.Dict{}
	var groups []any
	count := 0
	rate := t.options.Rate(max(t.iter-1, 0)) // of the last step
	for _, g := range t.adam.groups {
		var names, ids []any
		for _, i := range g.members {
			names, ids = append(names, params[i].Name), append(ids, int64(count))
			if s := &t.adam.states[i]; s.steps > 0 {
				shape := params[i].Shape
				state.Keys = append(state.Keys, int64(count))
				state.Values = append(state.Values, map[string]any{
					"step":       checkpoint.Scalar(s.steps),
					"exp_avg":    tensor.FromSlice(s.m, shape...).Weight(),
					"exp_avg_sq": tensor.FromSlice(s.v, shape...).Weight(),
				})
			}
			count++
		}
		groups = append(groups, map[string]any{
			"lr": rate * g.scale, "betas": pickle.Tuple{t.options.Beta1, t.options.Beta2}, "eps": t.options.Eps, "weight_decay": g.decay,
			"amsgrad": false, "maximize": false, "foreach": nil, "capturable": false, "differentiable": false, "fused": nil,
			"decoupled_weight_decay": true, "my_lr_scale": g.scale, "param_names": names, "params": ids,
		})
	}
	return map[string]any{"state": state, "param_groups": groups}
}

// Resume makes the trainer go on from a checkpoint whose weights its model has already: it takes the
// optimizer's state, the number of steps and the generator's state. A file of PyTorch's has none of the
// last: then the seed counts.
func (t *Trainer) Resume(path string) error {
	if t.tuning {
		return errors.New("train: a file of states has no optimizer to go on with")
	}
	f, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	iter, ok := f.Value("iter_num")
	n, whole := iter.(int64)
	if !ok || !whole || n < 0 {
		return fmt.Errorf("%s: iter_num is %v, want the number of steps done", path, iter)
	}
	t.iter = int(n)
	if v, ok := f.Value("best_val_loss"); ok {
		switch x := v.(type) {
		case float64:
			t.best = x
		case int64:
			t.best = float64(x)
		}
	}
	if v, ok := f.Value("rng"); ok {
		text, _ := v.(string)
		state, err := hex.DecodeString(text)
		if err == nil {
			err = t.pcg.UnmarshalBinary(state)
		}
		if err != nil {
			return fmt.Errorf("%s: rng: %w", path, err)
		}
	}
	return t.readOptimizer(path, f)
}

// readOptimizer reads the optimizer's state.
func (t *Trainer) readOptimizer(path string, f *checkpoint.File) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: optimizer: %w", path, fmt.Errorf(format, args...))
	}
	v, ok := f.Value("optimizer", "param_groups")
	groups, isList := v.([]any)
	if !ok || !isList {
		return fail("no param_groups: the file is no checkpoint to go on from")
	}
	params := t.model.Parameters()
	byName := map[string]int{}
	for i, p := range params {
		byName[p.Name] = i
		if p.Alias != "" {
			byName[p.Alias] = i
		}
	}
	var usual []int // what the ids count through without names
	for _, g := range t.adam.groups {
		usual = append(usual, g.members...)
	}
	var state map[string]any
	if v, ok := f.Value("optimizer", "state"); ok {
		state, _ = v.(map[string]any)
	}
	if len(state) == 0 {
		return nil
	}
	tensors, err := checkpoint.Open(path, checkpoint.Key("optimizer", "state"))
	if err != nil {
		return err
	}
	defer tensors.Close()
	seen := 0
	for _, g := range groups {
		dict, _ := g.(map[string]any)
		ids, _ := dict["params"].([]any)
		names, _ := dict["param_names"].([]any)
		if names != nil && len(names) != len(ids) {
			return fail("%d param_names for %d params", len(names), len(ids))
		}
		for j, id := range ids {
			var at int
			if names != nil {
				name, _ := names[j].(string)
				if at, ok = byName[checkpoint.TrimPrefixes(name)]; !ok {
					return fail("parameter %q isn't the model's", name)
				}
			} else {
				if seen >= len(usual) {
					return fail("more parameters than the model's %d", len(usual))
				}
				at = usual[seen]
			}
			seen++
			key, _ := id.(int64)
			one, ok := state[strconv.FormatInt(key, 10)].(map[string]any)
			if !ok {
				continue // not yet stepped
			}
			if err := t.adam.states[at].read(tensors, strconv.FormatInt(key, 10), one, params[at]); err != nil {
				return fail("%s: %w", params[at].Name, err)
			}
		}
	}
	if seen != len(params) {
		return fail("%d parameters, but the model has %d", seen, len(params))
	}
	return nil
}

// read takes a parameter's state from a file of those of all.
func (s *adamState) read(f *checkpoint.File, key string, values map[string]any, p rwkv.Parameter) error {
	steps, err := number(values["step"])
	if err != nil {
		return fmt.Errorf("step: %w", err)
	}
	if s.noGradient {
		return nil
	}
	s.steps = int(steps)
	for _, part := range [...]struct {
		name string
		to   []float32
	}{{"exp_avg", s.m}, {"exp_avg_sq", s.v}} {
		w, err := f.Tensor(key + "." + part.name)
		if err != nil {
			return err
		}
		if !slices.Equal(w.Shape(), p.Shape) {
			return fmt.Errorf("%s has shape %v, want %v", part.name, w.Shape(), p.Shape)
		}
		copy(part.to, w.Float32().Data())
	}
	return nil
}

// number returns a count that is stored as any number.
func number(v any) (float64, error) {
	switch x := v.(type) {
	case float64:
		return x, nil
	case int64:
		return float64(x), nil
	}
	return 0, fmt.Errorf("%v, want a number", v)
}
