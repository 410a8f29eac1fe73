//! The numbers: throughput, latency, memory and API writes of the whole path on the embedded platform.
