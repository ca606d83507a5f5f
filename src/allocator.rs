//! The allocator of the wheel.
//!
//! A record is allocated by the thread that makes it, copied by the client's and freed by a third. The allocator of the C
//! library has threads wait for each other there, and those with a heap for each thread keep several times of what
//! is in use. So jemalloc, with one arena and a cache for each thread that has room for a few thousand records: with the
//! default, a few hundred, records of 96 B from Python are delivered 8 to 14 % slower, as the caches are filled and emptied more
//! often (`benches/python/deliver.py`, in turns with `_RJEM_MALLOC_CONF=lg_tcache_nslots_mul:1`).

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before its first allocation. Large pages make fresh memory cheap. Without the threshold of 1 GiB
/// memory of 8 MiB and more, such as that of a large batch, would go back to the system as soon as it is freed, and be
/// filled with zeros for the next batch; to switch the threshold off leaves it as it is for the first arena.
#[expect(unsafe_code, reason = "it has to have this name, and nobody else gives it to anything")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 103] =
    b"narenas:1,thp:always,oversize_threshold:1073741824,lg_tcache_nslots_mul:4,tcache_nslots_small_max:4000\0";
