/* A closed-loop load generator for the router benchmark: one thread, one epoll.
 *
 * usage: load_client PORT CONNECTIONS SECONDS WARMUP_S plain|stream MAX_TOKENS PID
 *
 * Every connection sends a chat completion, waits for the whole answer and sends the next one, for
 * WARMUP_S and then for SECONDS, of which it prints one JSON line: rates, latency, time to the first
 * stamped event, delay from a worker's stamp to the read here, and the CPU seconds that process PID
 * (0: none) used within exactly that time. Errors count from the first byte on, warm-up included.
 * The first failure is described on stderr. After the measured time every connection is read once more; one that stays silent has stalled.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_EVENTS 1024
#define READ_BYTES 131072
#define DRAIN_NS 10000000000LL /* longer than an overloaded router delays a chunk */

/* A growing list of durations in nanoseconds. */
struct samples {
    int64_t *values;
    size_t length;
    size_t capacity;
};

struct connection {
    int fd;
    struct buffer head;    /* the answer until its head is complete */
    struct buffer body;    /* decoded body; of streams, the part not yet split into events */
    struct framing framing;
    struct chunk_decoder decoder;
    bool has_head;
    bool has_done;         /* [DONE] was seen */
    int num_events;        /* stamped events of this answer */
    int64_t body_bytes;
    int64_t sent_at_ns;
    bool is_drained;       /* gave some bytes after the measured time */
};

enum outcome { MORE, FINISHED, BROKEN };

static struct connection *connections;
static struct sockaddr_in address;
static int epoll_fd;
static bool is_stream;
static int max_tokens;
static char request[4096];
static size_t request_bytes;
static int64_t window_start_ns;
static bool is_over;       /* the measured time is */
static int num_drained;
static struct samples latency, ttft, delay;
static int64_t num_errors, num_non_200, num_incomplete, num_opened;

static void sample(struct samples *samples, int64_t value)
{
    if (samples->length == samples->capacity) {
        samples->capacity = samples->capacity ? samples->capacity * 2 : 65536;
        samples->values = realloc(samples->values, samples->capacity * sizeof *samples->values);
        if (samples->values == NULL)
            die("realloc");
    }
    samples->values[samples->length++] = value;
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

/* Print percentiles in microseconds, or null where nothing was measured. */
static void print_samples(const char *name, struct samples *samples)
{
    if (samples->length == 0) {
        printf("\"%s\":null,", name);
        return;
    }
    qsort(samples->values, samples->length, sizeof *samples->values, compare);
    size_t last = samples->length - 1;
    printf("\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"num\":%zu},", name,
           (double)samples->values[last / 2] / 1e3,
           (double)samples->values[(size_t)((double)last * 0.90)] / 1e3,
           (double)samples->values[(size_t)((double)last * 0.99)] / 1e3, samples->length);
}

/* CPU seconds, user and system, of all threads of a process so far. */
static double process_cpu_s(int pid)
{
    char path[64], text[1024];
    if (pid == 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof text, file) == NULL)
        die("load_client: /proc/PID/stat");
    fclose(file);
    /* The name, in parentheses, may hold blanks; utime and stime are the 12th and 13th field after it. */
    unsigned long user = 0, system = 0;
    sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
           &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void send_request(struct connection *connection)
{
    connection->head.length = connection->body.length = 0;
    connection->decoder = (struct chunk_decoder){0};
    connection->has_head = connection->has_done = false;
    connection->num_events = 0;
    connection->body_bytes = 0;
    connection->sent_at_ns = now_ns();
    if (send(connection->fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes)
        num_errors++;
}

static void open_connection(struct connection *connection)
{
    int on = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address))
        die("load_client: connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event);
    num_opened++;
}

static void reopen_connection(struct connection *connection)
{
    close(connection->fd);
    open_connection(connection);
}

static void take_event(struct connection *connection, const char *event, size_t length, int64_t at_ns)
{
    static const char STAMP[] = "\"ts\":", DONE[] = "data: [DONE]";
    const char *stamp = memmem(event, length, STAMP, sizeof STAMP - 1);
    if (stamp == NULL) {
        if (length >= sizeof DONE - 1 && memcmp(event, DONE, sizeof DONE - 1) == 0)
            connection->has_done = true;
        return;
    }
    if (at_ns > window_start_ns && !is_over) {
        sample(&delay, at_ns - strtoll(stamp + sizeof STAMP - 1, NULL, 10));
        if (connection->num_events == 0)
            sample(&ttft, at_ns - connection->sent_at_ns);
    }
    connection->num_events++;
}

/* Split off every whole event. */
static void take_events(struct connection *connection, int64_t at_ns)
{
    char *start = connection->body.data, *stop = start + connection->body.length, *end;
    char *at = start;
    while (at < stop && (end = memmem(at, (size_t)(stop - at), "\n\n", 2)) != NULL) {
        take_event(connection, at, (size_t)(end - at), at_ns);
        at = end + 2;
    }
    buffer_consume(&connection->body, (size_t)(at - start));
}

static enum outcome take_body(struct connection *connection, const char *data, size_t length,
                              int64_t at_ns)
{
    bool is_complete;
    if (connection->framing.is_chunked) {
        ssize_t used = chunks_decode(&connection->decoder, data, length, &connection->body);
        if (used < 0 || (size_t)used < length)
            return BROKEN; /* no chunked coding, or bytes after the end of the answer */
        is_complete = connection->decoder.state == CHUNK_DONE;
    } else {
        buffer_append(&connection->body, data, length);
        connection->body_bytes += (int64_t)length;
        if (connection->body_bytes > connection->framing.content_length)
            return BROKEN;
        is_complete = connection->body_bytes == connection->framing.content_length;
    }
    if (is_stream)
        take_events(connection, at_ns);
    return is_complete ? FINISHED : MORE;
}

static enum outcome take_bytes(struct connection *connection, const char *data, size_t length,
                               int64_t at_ns)
{
    if (connection->has_head)
        return take_body(connection, data, length, at_ns);
    struct buffer *head = &connection->head;
    buffer_append(head, data, length);
    size_t head_bytes = head_length(head->data, head->length);
    if (head_bytes == 0)
        return MORE;
    if (head_bytes < 12 || strncmp(head->data, "HTTP/1.1 200", 12) != 0)
        num_non_200++;
    connection->framing = parse_framing(head->data, head_bytes);
    if (!connection->framing.is_chunked && connection->framing.content_length < 0)
        return BROKEN;
    connection->has_head = true;
    return take_body(connection, head->data + head_bytes, head->length - head_bytes, at_ns);
}

static bool is_whole(const struct connection *connection)
{
    if (is_stream)
        return connection->has_done && connection->num_events == max_tokens;
    return connection->body.length > 0 && connection->body.data[connection->body.length - 1] == '}';
}

/* Describe the first answer that was not as it should be. */
static void describe(const struct connection *connection, const char *what)
{
    static bool is_described;
    if (is_described)
        return;
    is_described = true;
    fprintf(stderr, "%s after %.3f s: %s head, %d of %d events, %s[DONE], %lld body bytes\n%.*s\n", what,
            (double)(now_ns() - connection->sent_at_ns) / 1e9, connection->has_head ? "whole" : "no",
            connection->num_events, is_stream ? max_tokens : 0, connection->has_done ? "" : "no ",
            (long long)connection->body_bytes, (int)connection->head.length, connection->head.data);
}

static void drain(struct connection *connection)
{
    if (connection->is_drained)
        return;
    connection->is_drained = true;
    num_drained++;
}

static void read_answer(struct connection *connection)
{
    static char data[READ_BYTES];
    ssize_t count = recv(connection->fd, data, sizeof data, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN)
        return;
    int64_t at_ns = now_ns();
    if (is_over)
        drain(connection);
    enum outcome outcome = count <= 0 ? BROKEN : take_bytes(connection, data, (size_t)count, at_ns);
    if (outcome == MORE)
        return;
    if (outcome == BROKEN) {
        num_errors++;
        describe(connection, "broken");
    } else if (!is_whole(connection)) {
        num_incomplete++;
        describe(connection, "incomplete");
    } else if (at_ns > window_start_ns && !is_over) {
        sample(&latency, at_ns - connection->sent_at_ns);
    }
    if (is_over) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
        return;
    }
    if (outcome == BROKEN || connection->framing.closes)
        reopen_connection(connection);
    send_request(connection);
}

static void build_request(void)
{
    char body[2048];
    int body_bytes = snprintf(
        body, sizeof body,
        "{\"model\":\"mock-model\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful "
        "assistant that answers briefly and to the point.\"},{\"role\":\"user\",\"content\":\"Write a "
        "short story about a robot that learns to paint the sky over a quiet harbour town, in the style "
        "of a children's book.\"}],\"max_tokens\":%d,\"temperature\":0.5,\"stream\":%s}",
        max_tokens, is_stream ? "true" : "false");
    int length = snprintf(request, sizeof request,
                          "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                          "Content-Type: application/json\r\nContent-Length: %d\r\n"
                          "x-slo-ttft-ms: 500\r\nx-slo-tpot-ms: 50\r\n\r\n%s",
                          body_bytes, body);
    request_bytes = (size_t)length;
}

/* Read whatever comes within a millisecond. */
static void read_answers(void)
{
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(epoll_fd, events, MAX_EVENTS, 1);
    for (int index = 0; index < count; index++)
        read_answer(events[index].data.ptr);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: load_client PORT CONNECTIONS SECONDS WARMUP_S plain|stream MAX_TOKENS PID\n");
        return 2;
    }
    int num_connections = atoi(argv[2]), pid = atoi(argv[7]);
    double seconds = atof(argv[3]), warmup_s = atof(argv[4]);
    is_stream = strcmp(argv[5], "stream") == 0;
    max_tokens = atoi(argv[6]);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raise_descriptor_limit();
    build_request();
    epoll_fd = epoll_create1(0);
    connections = calloc((size_t)num_connections, sizeof *connections);
    for (int index = 0; index < num_connections; index++)
        open_connection(&connections[index]);

    window_start_ns = now_ns() + (int64_t)(warmup_s * 1e9);
    int64_t window_end_ns = window_start_ns + (int64_t)(seconds * 1e9);
    double cpu_start_s = 0;
    bool is_measuring = false;
    for (int index = 0; index < num_connections; index++)
        send_request(&connections[index]);
    int64_t at_ns;
    while ((at_ns = now_ns()) < window_end_ns) {
        if (!is_measuring && at_ns >= window_start_ns) {
            is_measuring = true;
            window_start_ns = at_ns;
            cpu_start_s = process_cpu_s(pid);
        }
        read_answers();
    }
    double measured_s = (double)(at_ns - window_start_ns) / 1e9;
    double cpu_s = process_cpu_s(pid) - cpu_start_s;
    is_over = true;
    while (num_drained < num_connections && now_ns() < at_ns + DRAIN_NS)
        read_answers();

    printf("{\"measured_s\":%.4f,\"num_requests\":%zu,\"num_chunks\":%zu,", measured_s, latency.length,
           delay.length);
    print_samples("latency_us", &latency);
    print_samples("ttft_us", &ttft);
    print_samples("delay_us", &delay);
    printf("\"num_errors\":%lld,\"num_non_200\":%lld,\"num_incomplete\":%lld,\"num_stalled\":%d,"
           "\"num_connections\":%lld,\"cpu_s\":%.2f}\n",
           (long long)num_errors, (long long)num_non_200, (long long)num_incomplete,
           num_connections - num_drained, (long long)num_opened, cpu_s);
    return 0;
}
