package serve

import (
	"context"
	"slices"
	"time"

	"microrwkv/rwkv"
)

// job is a prompt and the texts that go on from it.
type job struct {
	ctx     context.Context
	owner   string
	base    *rwkv.State // what the prompt goes on from, or nil; it becomes the job's
	parts   [][]int     // of the prompt
	n       int         // texts
	index   int         // of the first
	seed    uint64      // of the first
	options []rwkv.Option
	scores  bool // the prompt's tokens, with so many others:
	top     int
	out     *output

	begin  time.Time
	cached int // tokens of the prompt that were in the cache: set before the first event
	left   int // texts that haven't ended
	key    prefix
	ended  bool
}

// task is what takes a place in the batch: a prompt to read, or a text.
type task struct {
	job    *job
	index  int
	seq    *rwkv.Sequence // nil before it joined
	prompt bool
	marks  map[int]prefix // of a prompt: what to cache when so many tokens are left
	left   int            // tokens of a prompt that weren't read before the step
	turn   int            // tokens since it was let in
	told   int            // tokens
	last   time.Time      // of the newest
}

// queue holds tasks of several owners, who come in turn.
type queue struct {
	owners []string
	tasks  map[string][]*task
	len    int
}

// push appends a task to its owner's.
func (q *queue) push(t *task) {
	if q.tasks == nil {
		q.tasks = map[string][]*task{}
	}
	o := t.job.owner
	if len(q.tasks[o]) == 0 {
		q.owners = append(q.owners, o)
	}
	q.tasks[o] = append(q.tasks[o], t)
	q.len++
}

// pop removes the next task that may come, or returns nil.
func (q *queue) pop(may func(*task) bool) *task {
	for i, o := range q.owners {
		at := slices.IndexFunc(q.tasks[o], may)
		if at < 0 {
			continue
		}
		t := q.tasks[o][at]
		q.tasks[o] = slices.Delete(q.tasks[o], at, at+1)
		q.owners = slices.Delete(q.owners, i, i+1)
		if len(q.tasks[o]) > 0 {
			q.owners = append(q.owners, o) // behind the others
		}
		q.len--
		return t
	}
	return nil
}

// remove removes the tasks that gone reports.
func (q *queue) remove(gone func(*task) bool) (removed []*task) {
	q.owners = slices.DeleteFunc(q.owners, func(o string) bool {
		q.tasks[o] = slices.DeleteFunc(q.tasks[o], func(t *task) bool {
			if !gone(t) {
				return false
			}
			removed = append(removed, t)
			return true
		})
		return len(q.tasks[o]) == 0
	})
	q.len -= len(removed)
	return removed
}
