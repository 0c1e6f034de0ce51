//! HTTP/2 with prior knowledge, by hyper's own client.
