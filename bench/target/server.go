package target

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"flashsale/bench/proc"
)

// logTailMax is how much of what a child says is kept for when it fails.
const logTailMax = 8 << 10

// Server is a running `flashsale serve`.
type Server struct {
	URL    string // for shoppers
	OpsURL string

	token   string
	process *proc.Process
	log     *tail
}

// Serve starts a server on the stack and returns once it is ready. The environment sets its
// options, such as BATCH_MAX=1.
func (s *Stack) Serve(ctx context.Context, env ...string) (_ *Server, err error) {
	server := &Server{token: rand.Text()}
	env = append(append([]string{"ADDR=127.0.0.1:0"}, env...), "OPS_ADDR=127.0.0.1:0", "ADMIN_TOKEN="+server.token, "LOG_LEVEL=info")
	if server.process, server.log, err = s.spawn(ctx, "serve", env); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start a server: %w\n%s", err, server.log), server.Stop())
		}
	}()
	select {
	case where := <-server.log.serving:
		server.URL, server.OpsURL = "http://"+where.Addr, "http://"+where.OpsAddr
	case <-server.process.Done():
		return nil, errors.New("it ended")
	case <-time.After(startTimeout):
		return nil, errors.New("it does not say where it serves")
	}
	return server, Await(ctx, startTimeout, "readiness", func() (bool, error) {
		response, err := server.get(ctx, "/readyz")
		return err == nil && response.status == http.StatusOK, nil
	})
}

// At is a server that somebody else runs: its operators' address and token open what follows.
// It has no process to stop.
func At(url, opsURL, token string) *Server {
	return &Server{URL: url, OpsURL: opsURL, token: token}
}

// AdminToken opens the operators' calls.
func (s *Server) AdminToken() string { return s.token }

// Worker is a running `flashsale work`.
type Worker struct {
	process *proc.Process
	log     *tail
}

// Work starts a worker on the stack.
func (s *Stack) Work(ctx context.Context, env ...string) (*Worker, error) {
	process, log, err := s.spawn(ctx, "work", append(env, "CONSUMER=bench", "WORK_OPS_ADDR=127.0.0.1:0"))
	return &Worker{process: process, log: log}, err
}

// spawn starts one of the engine's long-running commands and reads its log.
func (s *Stack) spawn(ctx context.Context, command string, env []string) (*proc.Process, *tail, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.binary, command)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.Environment(env...), write, write
	process, err := proc.Start(cmd)
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, nil, err
	}
	log := &tail{serving: make(chan address, 1)}
	go log.follow(read) // ends with the child, which holds the other end
	return process, log, nil
}

// PID is the server's process id.
func (s *Server) PID() int { return s.process.PID() }

// PID is the worker's process id.
func (w *Worker) PID() int { return w.process.PID() }

// Log is the end of what the server said.
func (s *Server) Log() string { return s.log.String() }

// Log is the end of what the worker said.
func (w *Worker) Log() string { return w.log.String() }

// Stop lets the server answer what it has accepted, and ends it.
func (s *Server) Stop() error { return s.process.Stop() }

// Stop lets the worker persist what it holds, and ends it.
func (w *Worker) Stop() error { return w.process.Stop() }

// Metrics reads /metrics: each series by its name with labels.
func (s *Server) Metrics(ctx context.Context) (map[string]float64, error) {
	response, err := s.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	metrics := make(map[string]float64)
	for line := range strings.Lines(string(response.body)) {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err == nil {
			metrics[line[:at]] = value
		}
	}
	return metrics, nil
}

// Profile takes a CPU profile of the server.
func (s *Server) Profile(ctx context.Context, length time.Duration) ([]byte, error) {
	path := "/debug/pprof/profile?seconds=" + strconv.Itoa(int(length.Seconds()))
	response, err := s.get(ctx, path)
	if err == nil && response.status != http.StatusOK {
		err = fmt.Errorf("%s: status %d", path, response.status)
	}
	return response.body, err
}

type response struct {
	status int
	body   []byte
}

func (s *Server) get(ctx context.Context, path string) (response, error) {
	return s.call(ctx, http.MethodGet, path, nil)
}

func (s *Server) post(ctx context.Context, path string, body []byte, want int, into any) error {
	answer, err := s.call(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	if answer.status != want {
		return fmt.Errorf("POST %s: status %d: %s", path, answer.status, answer.body)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer.body, into); err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	return nil
}

func (s *Server) call(ctx context.Context, method, path string, body []byte) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.OpsURL+path, bytes.NewReader(body))
	if err != nil {
		return response{}, err
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := (&http.Client{}).Do(request)
	if err != nil {
		return response{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{status: answer.StatusCode, body: text}, err
}

// address is the line with which a server says where it is.
type address struct {
	Message string `json:"msg"`
	Addr    string `json:"addr"`
	OpsAddr string `json:"ops_addr"`
}

// tail keeps the end of a child's log.
type tail struct {
	serving chan address

	mu   sync.Mutex // guards what follows
	text []byte
}

func (t *tail) follow(r io.ReadCloser) {
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var said address
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Message == "serving" && said.OpsAddr != "" {
			select {
			case t.serving <- said:
			default:
			}
		}
		t.mu.Lock()
		t.text = append(append(t.text, lines.Bytes()...), '\n')
		t.text = t.text[max(0, len(t.text)-logTailMax):]
		t.mu.Unlock()
	}
}

// String returns the end of the log.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
