/*
 * nats_ws: the mask of WebSocket frames (RFC 6455, section 5.3).
 */
#ifndef NATS_WS_H
#define NATS_WS_H

#include <stddef.h>

/* Mask or unmask [data, data + len) in place; key has 4 bytes. */
void nats_ws_mask(char *data, size_t len, const void *key);

#endif
