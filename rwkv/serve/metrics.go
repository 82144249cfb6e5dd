package serve

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests, prompt, cancelled        *prometheus.CounterVec
	generated, hits                    prometheus.Counter
	queue, running, stateCount, states *prometheus.GaugeVec
	batch, step, first, token          prometheus.Histogram
	stateSeconds                       *prometheus.HistogramVec
	info                               *prometheus.GaugeVec
}

func newMetrics(r *prometheus.Registry) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "microrwkv_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "microrwkv_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	histogram := func(name, help string, labels []string, buckets []float64) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "microrwkv_" + name, Help: help, Buckets: buckets}, labels)
		r.MustRegister(v)
		return v
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 16) // to 33 s
	plain := func(v *prometheus.HistogramVec) prometheus.Histogram {
		return v.WithLabelValues().(prometheus.Histogram)
	}
	return &metrics{
		requests:     counter("requests_total", "Requests answered.", "endpoint", "code"),
		prompt:       counter("prompt_tokens_total", "Tokens of prompts.", "cached"),
		cancelled:    counter("cancelled_total", "Requests that ended before their text.", "why"),
		generated:    counter("generated_tokens_total", "Tokens generated.").WithLabelValues(),
		hits:         counter("cache_hits_total", "Prompts of which a beginning was in the cache.").WithLabelValues(),
		queue:        gauge("queue_depth", "Sequences that wait for a place in the batch.", "model"),
		running:      gauge("running", "Sequences in the batch.", "model"),
		stateCount:   gauge("states", "States kept.", "tier"),
		states:       gauge("state_bytes", "Bytes of states kept.", "tier"),
		batch:        plain(histogram("batch_size", "Sequences of a step.", nil, prometheus.ExponentialBuckets(1, 2, 8))),
		step:         plain(histogram("step_seconds", "Time of a step.", nil, seconds)),
		first:        plain(histogram("ttft_seconds", "Time from a request to its first token.", nil, seconds)),
		token:        plain(histogram("token_seconds", "Time from a token to the next.", nil, seconds)),
		stateSeconds: histogram("state_seconds", "Time of a store's operation.", []string{"op"}, seconds),
		info:         gauge("model_info", "The models.", "model", "kind", "fingerprint", "kernel"),
	}
}
