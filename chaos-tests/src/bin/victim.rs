//! A producer that announces what it does and sends until somebody ends it: the twin of `chaos/victims/wheel_victim.py`.
//!
//! Its orders are the first line of its standard input. A later line is `drain` or `close`; the end of the input means `close`.

use std::error::Error;
use std::io::{self, BufRead as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::ZerobusWrapper;
use arrow_zerobus_sdk_wrapper::error::{Coded as _, chain};
use chaos_tests::{Announcement, Orders, batch, digest};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Mutex;

/// A producer that was refused does not fill the disk with its announcements.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(10);

/// The time of `CLOCK_MONOTONIC`, which every process of the machine shares.
fn monotonic_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for a timespec, and the call writes nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn announce(announcement: &Announcement) -> io::Result<()> {
    // One write per line, so that a kill leaves whole lines only.
    let mut event = serde_json::to_value(announcement)?;
    event["at_ns"] = monotonic_ns().into();
    io::stdout().lock().write_all(format!("{event}\n").as_bytes())
}

fn resident_bytes() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "it is not the log that is read")]
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    anonymous.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

type Producers = tokio::task::JoinSet<Result<(), Box<dyn Error + Send + Sync>>>;

/// What the producers share.
struct Producing {
    orders: Orders,
    wrapper: ZerobusWrapper,
    directory: String,
    is_over: AtomicBool,
    /// The number of the next batch, and its first row.
    next: Mutex<(u64, i64)>,
}

async fn produce(producing: Arc<Producing>, producer: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let orders = &producing.orders;
    let seed = orders
        .seed
        .bytes()
        .fold(producer as u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let bad_text = (orders.bad_text_bytes > 0).then(|| "x".repeat(orders.bad_text_bytes));
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let rows = random.random_range(orders.rows.0..=orders.rows.1);
        let (number, first) = {
            let mut next = producing.next.lock().await;
            if producing.is_over.load(Ordering::Relaxed) || orders.batches.is_some_and(|most| next.0 > most) {
                return Ok(());
            }
            let taken = *next;
            *next = (taken.0 + 1, taken.1 + rows);
            taken
        };
        let ids = first..first + rows;
        let mut bad: Vec<i64> = orders.bad_ids.iter().copied().filter(|id| ids.contains(id)).collect();
        if orders.bad_rows > 0 && number % orders.bad_rows == 0 && !bad.contains(&first) {
            bad.push(first);
        }
        let made = batch(first, rows, &bad, bad_text.as_deref())?;
        announce(&Announcement::Intent { batch: number, producer, first, rows, hash: digest(ids), bad })?;
        let mut pause = Duration::from_secs_f64(orders.pause_ms / 1000.0);
        let (lsn, durable) = match producing.wrapper.send_batch(made).await {
            Ok(stored) => (stored.lsn, stored.durable),
            Err(error) if error.lsn().is_some() => (error.lsn(), true),
            Err(error) => {
                announce(&Announcement::Refused {
                    batch: number,
                    error: format!("{:?}", error.code()),
                    code: error.code().info().name.to_owned(),
                    message: chain(&error),
                })?;
                tokio::time::sleep(pause.max(PAUSE_AFTER_REFUSAL)).await;
                continue;
            }
        };
        let directory = producing.directory.clone();
        announce(&Announcement::Ack { batch: number, lsn: lsn.map(|lsn| lsn.get()), directory, durable })?;
        if let Some(lsn) = lsn.filter(|lsn| orders.is_patient && lsn.get() % 4 == 0) {
            // That some of its rows are refused is told here, and intended.
            let _ = producing.wrapper.wait_delivered(lsn, None).await;
        }
        if !pause.is_zero() {
            tokio::time::sleep(std::mem::take(&mut pause)).await;
        }
    }
}

/// Sends no more, and waits until nothing waits.
async fn drain(producing: &Producing, producers: &mut Producers) -> Result<(), Box<dyn Error + Send + Sync>> {
    producing.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended??;
    }
    while producing.wrapper.status().rows.waiting > 0 {
        // That some rows were refused is told here, and intended.
        let _ = producing.wrapper.flush(Some(Duration::from_millis(200))).await;
    }
    let statuses = vec![serde_json::to_value(producing.wrapper.status())?];
    Ok(announce(&Announcement::Drained { statuses })?)
}

/// Plants what the orders want of this process.
fn prepare(orders: &Orders) -> Result<(), Box<dyn Error>> {
    #[cfg(feature = "sim")]
    {
        use arrow_zerobus_sdk_wrapper::canary::{self, Canary};
        use arrow_zerobus_sdk_wrapper::deaths::{self, Death};
        if let Some((name, nth)) = &orders.die_at {
            let named = Death::ALL.into_iter().find(|death| format!("{death:?}") == *name);
            deaths::plan(named.ok_or_else(|| format!("there is no moment {name}"))?, *nth);
        }
        if let Some(name) = &orders.canary {
            let named = Canary::ALL.into_iter().find(|canary| format!("{canary:?}") == *name);
            canary::plant_in_process(named.ok_or_else(|| format!("there is no canary {name}"))?);
        }
        Ok(())
    }
    #[cfg(not(feature = "sim"))]
    match (&orders.die_at, &orders.canary) {
        (None, None) => Ok(()),
        _ => Err("deaths and canaries are only in builds with the feature sim".into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let orders: Orders = serde_json::from_str(&line)?;
    prepare(&orders).map_err(|error| error.to_string())?;
    let configuration = orders.configuration()?;
    announce(&Announcement::Ready { resident_bytes: resident_bytes() })?;
    announce(&Announcement::Opening)?;
    let wrapper = match ZerobusWrapper::open(configuration) {
        Ok(wrapper) => wrapper,
        Err(error) => {
            announce(&Announcement::Failed { during: "open".to_owned(), message: chain(&error) })?;
            std::process::exit(1);
        }
    };
    let directory = wrapper.status().directory.to_string_lossy().into_owned();
    announce(&Announcement::Open { directory: directory.clone() })?;
    let next = Mutex::new((1, orders.first_id));
    let producing = Arc::new(Producing { orders, wrapper, directory, is_over: AtomicBool::new(false), next });
    let mut producers = Producers::new();
    for producer in 0..producing.orders.producers {
        producers.spawn(produce(Arc::clone(&producing), producer));
    }
    let (tell, mut commands) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
    });
    loop {
        tokio::select! {
            command = commands.recv() => match command.as_deref() {
                Some("drain") => drain(&producing, &mut producers).await?,
                _ => break,
            },
            Some(ended) = producers.join_next() => ended??,
        }
    }
    announce(&Announcement::Closing)?;
    producing.is_over.store(true, Ordering::Relaxed);
    producing.wrapper.shutdown().await?;
    announce(&Announcement::Closed)?;
    Ok(())
}
