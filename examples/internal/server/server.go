// Package server is the program of examples/serve, which stores beside those of its own can be linked into:
// see examples/serve/blob.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv/serve"
)

// Main is the program.
func Main() {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	s := newSettings(fs)
	cli.Parse(fs, os.Args[1:])
	if err := run(s); err != nil {
		cli.Fail(err)
	}
}

// Flags returns the program's flags.
func Flags() *flag.FlagSet {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	newSettings(fs)
	return fs
}

// run serves until a signal ends it.
func run(s *settings) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	config, err := s.config()
	if err != nil {
		return err
	}
	if err := s.checkOpen(len(config.Keys) > 0); err != nil {
		return err
	}
	models, err := s.models()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	server, err := serve.New(models, config)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	h := serve.NewHTTPServer(server)
	h.ErrorLog = slog.NewLogLogger(config.Log.Handler(), slog.LevelWarn)
	go func() { failed <- h.Serve(listener) }()
	if s.adminAddr != "" {
		admin, err := net.Listen("tcp", s.adminAddr)
		if err != nil {
			return err
		}
		go func() { failed <- serve.NewHTTPServer(adminHandler(server)).Serve(admin) }()
	}
	fmt.Printf("http://%s/\n", listener.Addr())

	var first os.Signal
	select {
	case err := <-failed:
		return err
	case first = <-signals:
	}
	go func() {
		<-signals
		cli.Fail(cli.ErrInterrupted)
	}()
	server.Drain()
	if first == syscall.SIGTERM {
		time.Sleep(s.drainDelay) // until nobody sends more
	}
	config.Log.Info("shutting down")
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout)
	defer cancel()
	err = server.Shutdown(ctx)
	last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if e := h.Shutdown(last); e != nil {
		h.Close()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("requests were cut short after --drain_timeout %s", s.drainTimeout)
	}
	return err
}

// adminHandler serves what isn't for clients.
func adminHandler(s *serve.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", s.Metrics())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
