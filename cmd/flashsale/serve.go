package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/signal"
	"syscall"

	"flashsale/engine"
	"flashsale/server"
	"flashsale/worker"
)

type serveCommand struct {
	starting `embed:""`
	stores   `embed:""`
	serving  `embed:""`
	paying   `embed:""`
}

// Run serves until ctx ends: the server drains first, then the pools close.
func (c *serveCommand) Run(ctx context.Context, logger *slog.Logger) error {
	signal.Ignore(syscall.SIGHUP) // which means nothing here: settings are read once
	if err := c.checkDevLogin(); err != nil {
		return err
	}
	c.ConnsMax = allowFiles(c.ConnsMax, logger)
	r, err := c.openRooms(ctx, c.stores, logger, c.tune)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.openDesk(c.paying, nil); err != nil {
		return err
	}
	s, err := r.newServer(c.serving)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// checkDevLogin keeps the log-in without passwords on this machine.
func (s serving) checkDevLogin() error {
	host, _, _ := net.SplitHostPort(s.Addr) // listen says what is wrong with it
	if addr, err := netip.ParseAddr(host); !s.DevLogin || s.DevAnyway || host == "localhost" || err == nil && addr.IsLoopback() {
		return nil
	}
	return fmt.Errorf("DEV_LOGIN lets anybody who reaches %s log in as anybody: bind ADDR to 127.0.0.1, or say --dev-login-anywhere", s.Addr)
}

func (s serving) tune(config *engine.Config) {
	config.BatchMax, config.InFlight, config.FlagTTL = s.BatchMax, s.InFlight, s.FlagTTL
	s.limits.tune(config)
}

type workCommand struct {
	starting   `embed:""`
	stores     `embed:""`
	working    `embed:""`
	paying     `embed:""`
	AdminToken string   `env:"ADMIN_TOKEN" help:"Opens the profiles, at least 24 characters; without it they are disabled."`
	OpsHosts   []string `env:"OPS_HOSTS" help:"Names under which operators reach WORK_OPS_ADDR, beside localhost, this host's name and addresses."`
	OpsAddr    string   `env:"WORK_OPS_ADDR" default:"127.0.0.1:9091" help:"Where operators connect: health, metrics. Each worker of a host needs its own."`
}

// Run works until ctx ends: what is in hand is persisted and acknowledged, and what is being paid
// or refunded is finished, first.
func (c *workCommand) Run(ctx context.Context, logger *slog.Logger) error {
	signal.Ignore(syscall.SIGHUP)
	r, err := c.openRooms(ctx, c.stores, logger, numbering)
	if err != nil {
		return err
	}
	defer r.close()
	var w *worker.Worker
	if err := r.openDesk(c.paying, func() { w.Wake() }); err != nil {
		return err
	}
	if w, err = r.newWorker(c.working); err != nil {
		return err
	}
	ops, err := r.newOps(c.OpsAddr, c.AdminToken, c.OpsHosts, server.Check{Name: "streams", Probe: w.Ready, Explained: true})
	if err != nil {
		return err
	}
	logger.Info("working", "partitions", r.engine.Partitions(), "ops_addr", ops.addr)
	return ops.Run(ctx, r.work(w))
}
