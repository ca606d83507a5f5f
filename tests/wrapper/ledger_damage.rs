//! Goal: a ledger that is damaged, lost or put back from a copy costs no row, and no duplicate that nobody tells of.
//!
//! Method: rows are delivered and stay in the log, so that a ledger which forgets them would send them again. Then something
//! happens to the ledger, `verify` says so, and the next owner goes on. The table is compared row by row.

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::verify::{FindingKind, verify};
use arrow_zerobus_sdk_wrapper::admin::{self, Progress};
use arrow_zerobus_sdk_wrapper::{DeliveryGuarantee, WrapperConfiguration};

use crate::exactly::{drained, send};
use crate::site::{Site, batch, once};

type Change = fn(&Site, &Path);

fn remove(path: &Path) {
    match path.is_dir() {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

fn older(site: &Site) -> PathBuf {
    site.directory.path().join("older")
}

/// What happens to the ledger, and whether its mark is left to tell what it said.
const CHANGES: [(&str, bool, Change); 8] = [
    ("lost", true, |_, directory| remove(&directory.join("ledger"))),
    ("emptied", true, |_, directory| {
        remove(&directory.join("ledger"));
        std::fs::create_dir(directory.join("ledger")).unwrap();
    }),
    ("cut", true, |_, directory| {
        let file = std::fs::File::options().write(true).open(directory.join("ledger/db")).unwrap();
        file.set_len(100).unwrap();
    }),
    ("zeros", true, |_, directory| {
        std::fs::write(directory.join("ledger/db"), vec![0; 512 * 1024]).unwrap();
    }),
    ("older", true, |site, directory| {
        remove(&directory.join("ledger"));
        copy(&older(site), &directory.join("ledger"));
    }),
    ("foreign", true, |_, directory| {
        let other = Site::new();
        let wrapper = other.open_with(|c| c.shutdown_timeout = Duration::ZERO);
        drop(wrapper);
        remove(&directory.join("ledger"));
        copy(&other.writer_directory().join("ledger"), &directory.join("ledger"));
    }),
    ("without its mark", false, |_, directory| remove(&directory.join("ledger.mark"))),
    ("with a damaged mark", false, |_, directory| {
        std::fs::write(directory.join("ledger.mark"), [7; 8192]).unwrap();
    }),
];

async fn deliver(site: &Site, delivery: DeliveryGuarantee, ids: std::ops::Range<i64>) -> Vec<String> {
    let wrapper = site.open_with(|c: &mut WrapperConfiguration| {
        c.delivery = delivery;
        c.retain_delivered = Duration::from_secs(3600);
    });
    let damage = wrapper.status().damage;
    send(&wrapper, ids.clone()).await;
    let status = drained(&wrapper).await;
    assert_eq!((status.rows.delivered as i64, status.doubtful_rows), (ids.end, 0), "{damage:?}");
    wrapper.shutdown().await.unwrap();
    damage
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_ledger_is_told_and_no_row_is_lost_or_doubled_while_its_mark_is_whole() {
    for delivery in [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::ExactlyOnce] {
        for (what, is_marked, change) in CHANGES {
            let site = Site::new();
            let emulator = site.serve();
            let directory = site.writer_directory();
            assert!(deliver(&site, delivery, 0..20).await.is_empty());
            copy(&directory.join("ledger"), &older(&site));
            assert!(deliver(&site, delivery, 20..40).await.is_empty());
            assert!(verify(&directory, &Progress::default()).unwrap().is_sound, "{what}");
            change(&site, &directory);
            let told = verify(&directory, &Progress::default()).unwrap();
            assert!(!told.is_sound, "{what}, {delivery:?}: {told:#?}");
            assert_eq!(admin::status(&directory).is_err(), is_marked, "{what}: the files cannot tell");

            let damage = deliver(&site, delivery, 40..60).await;
            assert_eq!(damage.len(), 1, "{what}, {delivery:?}: {damage:?}");
            let names = if is_marked { "ledger" } else { "ledger.mark" };
            assert!(damage[0].contains(&directory.join(names).display().to_string()), "{damage:?}");
            assert!(verify(&directory, &Progress::default()).unwrap().is_sound, "{what}");
            emulator.stop().unwrap();
            assert_eq!(site.landed(), once(0..60), "{what}, {delivery:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_were_durable_and_are_gone_from_the_end_of_a_log_are_told_and_their_numbers_not_used_again()
 {
    let site = Site::new();
    let emulator = site.serve();
    assert!(deliver(&site, DeliveryGuarantee::AtLeastOnce, 0..20).await.is_empty());
    emulator.stop().unwrap();
    // Nobody listens: these stay in the log, and the checkpoint at the end vouches for them.
    let wrapper = site.open_with(|c| {
        c.shutdown_timeout = Duration::ZERO;
        c.retain_delivered = Duration::from_secs(3600);
    });
    send(&wrapper, 20..40).await;
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let directory = site.writer_directory();
    let before = verify(&directory, &Progress::default()).unwrap();
    assert!(before.is_sound && before.settled_lsn.get() == 2 && before.last_lsn.get() == 4, "{before:#?}");
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    remove(segments.iter().max().unwrap());
    let told = verify(&directory, &Progress::default()).unwrap();
    let missing = told.findings.iter().find(|it| it.kind == FindingKind::Missing);
    let lsns = missing.and_then(|missing| missing.lsns).unwrap_or_else(|| panic!("{told:#?}"));
    assert_eq!((lsns.first, lsns.last, told.is_sound), (3, 4, false));

    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.retain_delivered = Duration::from_secs(3600));
    let damage = wrapper.status().damage;
    assert!(damage.len() == 1 && damage[0].contains("frames 3 to 4"), "{damage:?}");
    let sent = wrapper.send_batch(batch(40..50)).await.unwrap();
    assert_eq!(sent.lsn.unwrap().get(), 5, "[I12]");
    let status = drained(&wrapper).await;
    assert_eq!((status.damaged_frames, status.rows.delivered), (2, 30));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert!(site.landed().into_keys().eq((0..20).chain(40..50)));
}
