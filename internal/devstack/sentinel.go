package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// MasterSet is the name under which the Sentinels of a stack watch its primary.
const MasterSet = "flashsale"

// sentinelReplicas is how many replicas the primary has that the Sentinels watch.
const sentinelReplicas = 2

// sentinelDaemon runs a Redis Sentinel, which keeps what it knows in its settings file.
type sentinelDaemon struct {
	*redisDaemon
	primary func() int // port
	quorum  int
}

var _ daemon = (*sentinelDaemon)(nil)

func (d *sentinelDaemon) path() string { return filepath.Join(d.dir, "sentinel.conf") }

func (d *sentinelDaemon) prepare(context.Context) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(d.path()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	settings := fmt.Sprintf(`dir %s
sentinel monitor %[2]s %s %d %d
sentinel down-after-milliseconds %[2]s %[6]d
sentinel failover-timeout %[2]s 5000
`, strconv.Quote(d.dir), MasterSet, host, d.primary(), d.quorum, ClusterNodeTimeout.Milliseconds())
	return os.WriteFile(d.path(), []byte(settings), 0o600)
}

func (d *sentinelDaemon) command(port int) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), d.programs.server, d.path(), "--sentinel",
		"--bind", host, "--port", strconv.Itoa(port))
	cmd.ExtraFiles = []*os.File{d.lock}
	return cmd
}

func (d *sentinelDaemon) stopped() error { return nil }

// startSentinels starts a primary, its replicas, and the Sentinels that watch them; it returns when
// they all know each other.
func (s *Stack) startSentinels(ctx context.Context, config Config, programs redisPrograms) error {
	node := func(args ...string) *Server {
		name := "redis-" + strconv.Itoa(len(s.Nodes)+1)
		server := s.server(name, config, &redisDaemon{
			programs: programs, dir: filepath.Join(s.dir, name), appendFsync: config.AppendFsync,
			args: append(args, config.RedisArgs...), lock: s.lock,
		})
		s.Nodes = append(s.Nodes, server)
		return server
	}
	primary := node()
	if err := primary.start(ctx); err != nil {
		return err
	}
	var starts []func(context.Context) error
	for range sentinelReplicas {
		starts = append(starts, node("--replicaof", host+" "+strconv.Itoa(primary.currentPort())).start)
	}
	if err := together(ctx, starts); err != nil {
		return err
	}
	starts = nil
	for n := range config.Sentinels {
		name := "sentinel-" + strconv.Itoa(n+1)
		sentinel := s.server(name, config, &sentinelDaemon{
			redisDaemon: &redisDaemon{programs: programs, dir: filepath.Join(s.dir, name), lock: s.lock},
			primary:     primary.currentPort, quorum: config.Sentinels/2 + 1,
		})
		s.Sentinels = append(s.Sentinels, sentinel)
		starts = append(starts, sentinel.start)
	}
	if err := together(ctx, starts); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := awaitReplicas(ctx, s.Nodes[1:]); err != nil {
		return err
	}
	know := fmt.Sprintf("slaves=%d,sentinels=%d", sentinelReplicas, config.Sentinels)
	for _, sentinel := range s.Sentinels {
		err := retry(ctx, func() error {
			info, err := call(ctx, sentinel.currentPort(), "INFO sentinel")
			if err == nil && !strings.Contains(info, know) {
				err = fmt.Errorf("does not know all the others yet: %s", info)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", sentinel.name, err)
		}
	}
	return nil
}

// sentinelURL names the Sentinels and whom they watch.
func sentinelURL(sentinels []*Server) string {
	return severalURL(sentinels, url.Values{"master_set": {MasterSet}})
}
