/* The HTTP/1.1 that both tools of the router benchmark need: heads, framing, chunks, a clock.
 * Tolerant on purpose: header names in any case, extra headers, content-length or chunked. */
#ifndef HFX_BENCH_WIRE_H
#define HFX_BENCH_WIRE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <time.h>

static inline int64_t now_ns(void)
{
    struct timespec spec;
    clock_gettime(CLOCK_MONOTONIC, &spec);
    return (int64_t)spec.tv_sec * 1000000000 + spec.tv_nsec;
}

static inline void die(const char *what)
{
    perror(what);
    exit(2);
}

/* Bytes with a length and a capacity; grows, never shrinks. */
struct buffer {
    char *data;
    size_t length;
    size_t capacity;
};

static inline void buffer_reserve(struct buffer *buffer, size_t extra)
{
    if (buffer->length + extra <= buffer->capacity)
        return;
    buffer->capacity = (buffer->length + extra) * 2;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (buffer->data == NULL)
        die("realloc");
}

static inline void buffer_append(struct buffer *buffer, const char *data, size_t length)
{
    if (length == 0)
        return;
    buffer_reserve(buffer, length);
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

/* Drop `length` bytes from the front. */
static inline void buffer_consume(struct buffer *buffer, size_t length)
{
    buffer->length -= length;
    if (length > 0 && buffer->length > 0)
        memmove(buffer->data, buffer->data + length, buffer->length);
}

/* What the headers say about the body that follows. */
struct framing {
    int64_t content_length; /* -1: not announced */
    bool is_chunked;
    bool closes;            /* connection: close */
};

static inline bool header_is(const char *line, const char *end, const char *name)
{
    size_t length = strlen(name);
    return (size_t)(end - line) > length && line[length] == ':' && strncasecmp(line, name, length) == 0;
}

static inline bool value_has(const char *line, const char *end, const char *token)
{
    size_t length = strlen(token);
    for (const char *at = line; at + length <= end; at++)
        if (strncasecmp(at, token, length) == 0)
            return true;
    return false;
}

/* Length of the head at the front of `data`, its empty line included; 0 when incomplete. */
static inline size_t head_length(const char *data, size_t length)
{
    const char *end = length < 4 ? NULL : memmem(data, length, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - data) + 4;
}

static inline struct framing parse_framing(const char *head, size_t length)
{
    struct framing framing = {.content_length = -1};
    const char *stop = head + length;
    for (const char *line = head; line < stop;) {
        const char *end = memmem(line, (size_t)(stop - line), "\r\n", 2);
        if (end == NULL || end == line)
            break;
        if (header_is(line, end, "content-length"))
            framing.content_length = atoll(line + strlen("content-length:"));
        else if (header_is(line, end, "transfer-encoding"))
            framing.is_chunked = value_has(line, end, "chunked");
        else if (header_is(line, end, "connection"))
            framing.closes = value_has(line, end, "close");
        line = end + 2;
    }
    return framing;
}

/* Incremental decoder of the chunked transfer coding. */
enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER, CHUNK_DONE };

struct chunk_decoder {
    enum chunk_state state;
    uint64_t left;        /* bytes of the present chunk's data still to come */
    size_t trailer_bytes; /* bytes of the present trailer line */
};

static inline int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Append the body bytes found in `data` to `body`. Returns the bytes consumed: all of them unless
 * the body ended (state CHUNK_DONE), or -1 when this is no chunked coding. */
static inline ssize_t chunks_decode(struct chunk_decoder *decoder, const char *data, size_t length,
                                    struct buffer *body)
{
    size_t at = 0;
    while (at < length && decoder->state != CHUNK_DONE) {
        char c = data[at];
        switch (decoder->state) {
        case CHUNK_SIZE:
        case CHUNK_EXTENSION:
            at++;
            if (c == '\n')
                decoder->state = decoder->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
            else if (c == ';' || c == '\r' || c == ' ')
                decoder->state = CHUNK_EXTENSION;
            else if (decoder->state == CHUNK_SIZE) {
                int digit = hex_digit(c);
                if (digit < 0 || decoder->left > UINT32_MAX)
                    return -1;
                decoder->left = decoder->left * 16 + (uint64_t)digit;
            }
            break;
        case CHUNK_DATA: {
            size_t take = length - at < decoder->left ? length - at : (size_t)decoder->left;
            buffer_append(body, data + at, take);
            at += take;
            decoder->left -= take;
            if (decoder->left == 0)
                decoder->state = CHUNK_DATA_END;
            break;
        }
        case CHUNK_DATA_END:
            at++;
            if (c == '\n')
                decoder->state = CHUNK_SIZE;
            else if (c != '\r')
                return -1;
            break;
        case CHUNK_TRAILER:
            at++;
            if (c == '\n') {
                if (decoder->trailer_bytes == 0)
                    decoder->state = CHUNK_DONE;
                decoder->trailer_bytes = 0;
            } else if (c != '\r') {
                decoder->trailer_bytes++;
            }
            break;
        case CHUNK_DONE:
            break;
        }
    }
    return (ssize_t)at;
}

/* Thousands of connections need more descriptors than the usual soft limit. */
static inline void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

#endif
