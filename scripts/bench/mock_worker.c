/* A fast FAKE of an SGLang worker for the router benchmark: one thread, one epoll. It serves no model.
 *
 * usage: mock_worker PORT ROLE INTERVAL_US        ROLE: null | prefill | decode
 *
 * POST, "stream":false: a fixed JSON answer at once.
 * POST, "stream":true:  one server-sent event per INTERVAL_US and stream, max_tokens of them, then
 *                       [DONE]. Each event is a write of its own and carries "ts", the
 *                       CLOCK_MONOTONIC nanoseconds at which it was written. A prefill worker sends
 *                       one event at once, as SGLang's prefill leg ends with the first token.
 * POST /abort_request:  200; its stream ends when the router closes the connection.
 * GET:                  /health, /v1/models, /model_info; /server_info for the rest. /v1/loads with
 *                       counters of its own: a prompt takes it PROMPT_US, a decode step INTERVAL_US.
 * On SIGTERM it prints one JSON line with what it counted and exits 0.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNECTIONS 16384
#define MAX_EVENTS 512
#define READ_BYTES 65536
#define DEFAULT_TOKENS 32
#define PROMPT_TOKENS 20 /* as COMPLETION says */
#define PROMPT_US 1      /* so little that the router is what is measured */
#define IDLE -1

struct connection {
    struct buffer in;
    struct buffer out;      /* what the kernel did not take */
    struct buffer body;     /* decoded body of a chunked request */
    struct chunk_decoder decoder;
    int active_index;       /* place in `active`; IDLE when no stream runs */
    int num_tokens;
    int num_left;
    int64_t due_ns;         /* when the next event is to be written */
    int64_t request_id;
    bool is_write_armed;
};

static struct connection connections[MAX_CONNECTIONS];
static int active[MAX_CONNECTIONS];
static int num_active;
static int epoll_fd;
static int64_t interval_ns;
static const char *role;
static bool is_prefill;
/* Of all decode steps: their number, the sums of the running streams b, of the microseconds, of b * b
 * and of b times the microseconds, and the tokens that came of them. */
static double num_steps, sum_running, sum_step_us, sum_running_squared, sum_running_us, num_generated;
static int64_t step_due_ns;
static int64_t num_posts, num_streams, num_bootstrapped, num_aborts, num_probes, num_accepted;
static volatile sig_atomic_t is_stopping;

static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"mock-model\",\"object\":\"model\",\"created\":1700000000,"
    "\"owned_by\":\"sglang\",\"root\":\"mock-model\",\"parent\":null,\"max_model_len\":32768}]}";
static const char COMPLETION[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock-model\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown fox jumps "
    "over the lazy dog and keeps running through the field.\",\"reasoning_content\":null},"
    "\"logprobs\":null,\"finish_reason\":\"stop\",\"matched_stop\":null}],\"usage\":{\"prompt_tokens\":20,"
    "\"total_tokens\":36,\"completion_tokens\":16,\"prompt_tokens_details\":null}}";

static void on_signal(int number)
{
    (void)number;
    is_stopping = 1;
}

static void stop_stream(struct connection *connection)
{
    int index = connection->active_index;
    if (index == IDLE)
        return;
    active[index] = active[--num_active];
    connections[active[index]].active_index = index;
    connection->active_index = IDLE;
}

static void close_connection(int fd)
{
    struct connection *connection = &connections[fd];
    stop_stream(connection);
    connection->in.length = connection->out.length = connection->body.length = 0;
    close(fd);
}

static void arm_writing(int fd, bool wanted)
{
    struct connection *connection = &connections[fd];
    if (connection->is_write_armed == wanted)
        return;
    connection->is_write_armed = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

static bool flush_output(int fd)
{
    struct buffer *out = &connections[fd].out;
    size_t sent = 0;
    while (sent < out->length) {
        ssize_t count = send(fd, out->data + sent, out->length - sent, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno == EAGAIN)
                break;
            return false;
        }
        sent += (size_t)count;
    }
    buffer_consume(out, sent);
    arm_writing(fd, out->length > 0);
    return true;
}

/* Write at once what the kernel takes and keep the rest. False: the peer is gone. */
static bool put(int fd, const char *data, size_t length)
{
    struct buffer *out = &connections[fd].out;
    if (out->length == 0) {
        ssize_t count = send(fd, data, length, MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN)
            return false;
        if (count > 0) {
            data += count;
            length -= (size_t)count;
        }
    }
    if (length == 0)
        return true;
    buffer_append(out, data, length);
    return flush_output(fd);
}

static bool put_json(int fd, const char *json)
{
    char answer[4096];
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
                          "content-length: %zu\r\ncontent-type: application/json\r\n\r\n%s",
                          strlen(json), json);
    return put(fd, answer, (size_t)length);
}

static bool put_event(int fd)
{
    struct connection *connection = &connections[fd];
    char event[512], chunk[640];
    int index = connection->num_tokens - connection->num_left;
    int event_bytes = snprintf(
        event, sizeof event,
        "data: {\"id\":\"chatcmpl-%lld\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tok%d \"},"
        "\"logprobs\":null,\"finish_reason\":%s}],\"ts\":%lld}\n\n",
        (long long)connection->request_id, index, connection->num_left == 1 ? "\"stop\"" : "null",
        (long long)now_ns());
    int chunk_bytes = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", event_bytes, event);
    if (!put(fd, chunk, (size_t)chunk_bytes))
        return false;
    connection->due_ns += interval_ns;
    if (--connection->num_left > 0)
        return true;
    static const char END[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    stop_stream(connection);
    return put(fd, END, sizeof END - 1);
}

static bool start_stream(int fd, const char *body)
{
    static const char HEAD[] =
        "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
        "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    struct connection *connection = &connections[fd];
    const char *wanted = strstr(body, "\"max_tokens\":");
    if (wanted == NULL)
        wanted = strstr(body, "\"max_completion_tokens\":");
    int num_tokens = wanted == NULL ? DEFAULT_TOKENS : atoi(strchr(wanted, ':') + 1);
    num_streams++;
    connection->num_tokens = connection->num_left = is_prefill || num_tokens < 1 ? 1 : num_tokens;
    connection->request_id = num_posts;
    connection->due_ns = now_ns() + (is_prefill ? 0 : interval_ns);
    connection->active_index = num_active;
    active[num_active++] = fd;
    if (!put(fd, HEAD, sizeof HEAD - 1))
        return false;
    return is_prefill ? put_event(fd) : true;
}

static bool put_empty(int fd)
{
    static const char OK[] = "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 0\r\n\r\n";
    return put(fd, OK, sizeof OK - 1);
}

static bool answer_get(int fd, const char *path)
{
    char json[2048];
    num_probes++;
    if (strncmp(path, "/health", 7) == 0)
        return put_empty(fd);
    if (strncmp(path, "/v1/models", 10) == 0)
        return put_json(fd, MODELS);
    if (strncmp(path, "/v1/loads", 9) == 0) {
        snprintf(json, sizeof json,
                 "{\"timestamp\":\"2026-01-01T00:00:00+00:00\",\"version\":\"0.5.23\",\"accelerator\":null,"
                 "\"num_accelerators\":1,\"loads\":[{\"timestamp\":0.0,\"dp_rank\":0,\"num_running_reqs\":%d,"
                 "\"num_waiting_reqs\":0,\"num_waiting_uncached_tokens\":0,\"num_used_tokens\":0,"
                 "\"num_total_tokens\":0,\"num_active_tokens\":%d,\"max_total_num_tokens\":1000000,"
                 "\"max_running_requests\":10000,\"token_usage\":0.0,"
                 "\"total_prefill_uncached_tokens\":%lld,\"total_prefill_busy_us\":%lld,"
                 "\"decode_moments\":[%.17g,%.17g,%.17g,%.17g,%.17g,%.17g],"
                 "\"disaggregation\":{\"mode\":\"%s\"}}]}",
                 num_active, PROMPT_TOKENS * num_active, (long long)(PROMPT_TOKENS * num_posts),
                 (long long)(PROMPT_US * num_posts), num_steps, sum_running, sum_step_us,
                 sum_running_squared, sum_running_us, num_generated, role);
        return put_json(fd, json);
    }
    snprintf(json, sizeof json,
             "{\"model_path\":\"mock-model\",\"served_model_name\":\"mock-model\",\"tokenizer_path\":"
             "\"mock-model\",\"is_generation\":true,\"weight_version\":\"default\",\"load_format\":\"auto\","
             "\"disaggregation_mode\":\"%s\",\"disaggregation_bootstrap_port\":8998,\"tp_size\":1,"
             "\"pp_size\":1,\"dp_size\":1,\"page_size\":1,\"load_balance_method\":\"round_robin\","
             "\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],"
             "\"max_total_num_tokens\":1000000,\"internal_states\":[{}],\"version\":\"0.5.23\"}",
             role);
    return put_json(fd, json);
}

/* `body` is terminated by a NUL. */
static bool answer_post(int fd, const char *path, const char *body)
{
    if (strncmp(path, "/abort_request", 14) == 0) {
        num_aborts++;
        return put_empty(fd);
    }
    num_posts++;
    if (strstr(body, "\"bootstrap_room\":") != NULL)
        num_bootstrapped++;
    const char *stream = strstr(body, "\"stream\":");
    if (stream != NULL) {
        stream += strlen("\"stream\":");
        stream += *stream == ' ';
        if (strncmp(stream, "true", 4) == 0)
            return start_stream(fd, body);
    }
    return put_json(fd, COMPLETION);
}

/* Answer the whole request at the front of the input, if there is one.
 * Returns 1: answered one; 0: more bytes are needed; -1: close. */
static int take_request(int fd)
{
    struct connection *connection = &connections[fd];
    struct buffer *in = &connection->in;
    size_t head_bytes = head_length(in->data, in->length);
    if (head_bytes == 0)
        return 0;
    if (strncmp(in->data, "PRI ", 4) == 0)
        return -1; /* HTTP/2 preface: probes for gRPC expect the close */
    struct framing framing = parse_framing(in->data, head_bytes);
    size_t total_bytes;
    if (framing.is_chunked) {
        connection->decoder = (struct chunk_decoder){0};
        connection->body.length = 0;
        ssize_t used = chunks_decode(&connection->decoder, in->data + head_bytes,
                                     in->length - head_bytes, &connection->body);
        if (used < 0)
            return -1;
        if (connection->decoder.state != CHUNK_DONE)
            return 0;
        total_bytes = head_bytes + (size_t)used;
    } else {
        size_t body_bytes = framing.content_length > 0 ? (size_t)framing.content_length : 0;
        total_bytes = head_bytes + body_bytes;
        if (in->length < total_bytes)
            return 0;
        connection->body.length = 0;
        buffer_append(&connection->body, in->data + head_bytes, body_bytes);
    }
    buffer_append(&connection->body, "", 1);
    bool is_alive = strncmp(in->data, "GET ", 4) == 0
                        ? answer_get(fd, in->data + 4)
                        : answer_post(fd, in->data + 5, connection->body.data);
    buffer_consume(in, total_bytes);
    return is_alive ? 1 : -1;
}

/* Answer what was received. The next request on a connection waits for the end of a stream. */
static void answer_requests(int fd)
{
    int outcome = 1;
    while (outcome == 1 && connections[fd].active_index == IDLE)
        outcome = take_request(fd);
    if (outcome < 0)
        close_connection(fd);
}

static void read_requests(int fd)
{
    struct connection *connection = &connections[fd];
    buffer_reserve(&connection->in, READ_BYTES);
    ssize_t count = recv(fd, connection->in.data + connection->in.length, READ_BYTES, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        close_connection(fd);
        return;
    }
    connection->in.length += (size_t)count;
    answer_requests(fd);
}

static void accept_connections(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (fd >= MAX_CONNECTIONS) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd].active_index = IDLE;
        connections[fd].is_write_armed = false;
        num_accepted++;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Write every event that is due. Streams that end or break leave `active` while it is walked:
 * the last one takes their place, so that the walk goes backwards. */
/* Count one step per interval in which streams run. */
static void count_step(int64_t now)
{
    double step_us = (double)interval_ns / 1000.0;
    if (is_prefill || num_active == 0 || now < step_due_ns)
        return;
    step_due_ns = now + interval_ns;
    num_steps++;
    sum_running += num_active;
    sum_step_us += step_us;
    sum_running_squared += (double)num_active * num_active;
    sum_running_us += num_active * step_us;
    num_generated += num_active;
}

static void put_due_events(void)
{
    int64_t now = now_ns();
    count_step(now);
    for (int index = num_active - 1; index >= 0; index--) {
        int fd = active[index];
        struct connection *connection = &connections[fd];
        bool is_alive = true;
        while (is_alive && connection->active_index != IDLE && connection->due_ns <= now)
            is_alive = put_event(fd);
        if (!is_alive)
            close_connection(fd);
        else if (connection->active_index == IDLE && connection->in.length > 0)
            answer_requests(fd);
    }
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        die("mock_worker: listen");
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: mock_worker PORT null|prefill|decode INTERVAL_US\n");
        return 2;
    }
    role = argv[2];
    is_prefill = strcmp(role, "prefill") == 0;
    interval_ns = atoll(argv[3]) * 1000;
    raise_descriptor_limit();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int listener = listen_on(atoi(argv[1]));
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    while (!is_stopping) {
        struct epoll_event events[MAX_EVENTS];
        /* One millisecond is the granularity of the token clock, as one step of an engine
         * finishes the tokens of many streams together. */
        int count = epoll_wait(epoll_fd, events, MAX_EVENTS, num_active > 0 ? 1 : -1);
        for (int index = 0; index < count; index++) {
            int fd = events[index].data.fd;
            if (fd == listener) {
                accept_connections(listener);
                continue;
            }
            if ((events[index].events & EPOLLOUT) && !flush_output(fd)) {
                close_connection(fd);
                continue;
            }
            if (events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_requests(fd);
        }
        put_due_events();
    }
    printf("{\"num_posts\":%lld,\"num_streams\":%lld,\"num_bootstrapped\":%lld,\"num_aborts\":%lld,"
           "\"num_probes\":%lld,\"num_connections\":%lld}\n",
           (long long)num_posts, (long long)num_streams, (long long)num_bootstrapped,
           (long long)num_aborts, (long long)num_probes, (long long)num_accepted);
    return 0;
}
