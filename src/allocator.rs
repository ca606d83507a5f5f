//! The allocator of the wheel.
//!
//! A record is allocated by the thread that makes it, copied by the client's and freed by a third. The allocator of the C
//! library has threads wait for each other there, and those with a heap for each thread keep several times of what
//! is in use. So jemalloc, with one arena and a cache for each thread.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before its first allocation; large pages make fresh memory cheap.
#[expect(unsafe_code, reason = "it has to have this name, and nobody else gives it to anything")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 21] = b"narenas:1,thp:always\0";
