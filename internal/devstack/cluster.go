package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// slots is how many parts a cluster's keys are spread over.
	slots = 16384

	// ClusterNodeTimeout is after how long the nodes of a private cluster take one of them for
	// dead. Real clusters wait 3 to 5 s; a test has no time for that.
	ClusterNodeTimeout = 1500 * time.Millisecond

	// clusterBus is how far below its port a node listens for the other nodes.
	clusterBus = 10000

	clusterInterval = 20 * time.Millisecond
)

// clusterNodeArgs turn a Redis into a node of a cluster.
func clusterNodeArgs(port int) []string {
	return []string{
		"--cluster-enabled", "yes",
		"--cluster-port", strconv.Itoa(port - clusterBus),
		"--cluster-node-timeout", strconv.FormatInt(ClusterNodeTimeout.Milliseconds(), 10),
		// What a shop wants: the loss of one primary and its replica stops its items only.
		"--cluster-require-full-coverage", "no",
		"--cluster-replica-validity-factor", "0",
	}
}

// planCluster adds the nodes, primaries first, then each primary's replica in the same order.
func (s *Stack) planCluster(config Config, programs redisPrograms) (starts []func(context.Context) error) {
	for n := range 2 * config.Cluster {
		name := "redis-" + strconv.Itoa(n+1)
		node := s.server(name, config, &redisDaemon{
			programs: programs, dir: filepath.Join(s.dir, name), appendFsync: config.AppendFsync,
			args: config.RedisArgs, lock: s.lock, cluster: true,
		})
		s.Nodes = append(s.Nodes, node)
		starts = append(starts, node.start)
	}
	return starts
}

// joinCluster makes one cluster of the running nodes, and returns when each of them says so. Data
// that was kept knows its cluster; only the ports are new, which a meeting tells.
func (s *Stack) joinCluster(ctx context.Context, primaries int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	first := s.Nodes[0].currentPort()
	// Each meets each: to hear of one another by gossip takes them many seconds.
	for n, node := range s.Nodes {
		for _, other := range s.Nodes[:n] {
			port := other.currentPort()
			meet := fmt.Sprintf("CLUSTER MEET %s %d %d", host, port, port-clusterBus)
			if _, err := call(ctx, node.currentPort(), meet); err != nil {
				return fmt.Errorf("%s: %w", node.name, err)
			}
		}
	}
	if err := s.awaitNodes(ctx, "cluster_known_nodes:"+strconv.Itoa(len(s.Nodes))); err != nil {
		return err
	}
	assigned, err := call(ctx, first, "CLUSTER INFO")
	if err != nil {
		return err
	}
	if strings.Contains(assigned, "cluster_slots_assigned:0\r\n") {
		if err := s.assignSlots(ctx, primaries); err != nil {
			return err
		}
	}
	return s.awaitNodes(ctx, "cluster_state:ok", fmt.Sprintf("cluster_slots_ok:%d\r", slots))
}

func (s *Stack) assignSlots(ctx context.Context, primaries int) error {
	for n, node := range s.Nodes[:primaries] {
		from, to := n*slots/primaries, (n+1)*slots/primaries-1
		epoch := fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", n+1)
		// Nodes that have met have agreed on epochs already; then this one is refused, and that is fine.
		_, _ = call(ctx, node.currentPort(), epoch)
		add := fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", from, to)
		if _, err := call(ctx, node.currentPort(), add); err != nil {
			return fmt.Errorf("%s: %w", node.name, err)
		}
	}
	for n, node := range s.Nodes[primaries:] {
		id, err := call(ctx, s.Nodes[n].currentPort(), "CLUSTER MYID")
		if err != nil {
			return err
		}
		if err := retry(ctx, func() error { // until the node has heard of its primary
			_, err := call(ctx, node.currentPort(), "CLUSTER REPLICATE "+id)
			return err
		}); err != nil {
			return fmt.Errorf("%s: %w", node.name, err)
		}
	}
	return awaitReplicas(ctx, s.Nodes[primaries:])
}

// awaitNodes returns when CLUSTER INFO of every node has the lines.
func (s *Stack) awaitNodes(ctx context.Context, lines ...string) error {
	for _, node := range s.Nodes {
		err := retry(ctx, func() error {
			info, err := call(ctx, node.currentPort(), "CLUSTER INFO")
			for _, line := range lines {
				if err == nil && !strings.Contains(info, line) {
					err = fmt.Errorf("still not %q:\n%s", strings.TrimSpace(line), info)
				}
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", node.name, err)
		}
	}
	return nil
}

// awaitReplicas returns once replicas hold what their primaries held.
func awaitReplicas(ctx context.Context, replicas []*Server) error {
	for _, replica := range replicas {
		err := retry(ctx, func() error {
			info, err := call(ctx, replica.currentPort(), "INFO replication")
			if err == nil && !strings.Contains(info, "master_link_status:up") {
				err = errors.New("has no link to its primary yet")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", replica.name, err)
		}
	}
	return nil
}

// severalURL names one address and the others as ?addr=.
func severalURL(servers []*Server, values url.Values) string {
	for _, server := range servers[1:] {
		values.Add("addr", address(server.currentPort()))
	}
	u := url.URL{Scheme: "redis", Host: address(servers[0].currentPort()), RawQuery: values.Encode()}
	return u.String()
}

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// retry repeats a step until it succeeds or ctx ends.
func retry(ctx context.Context, step func() error) error {
	ticker := time.NewTicker(clusterInterval)
	defer ticker.Stop()
	for {
		err := step()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
