//! Uploads: an object appears complete or not at all.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use bytes::Bytes;
use futures_executor::block_on;
use object_store::{
    Attribute, Error, GetOptions, GetRange, ObjectStoreExt, PutMode, PutOptions, PutPayload, multipart::PartId, path::Path as Key,
};
use parking_lot::Mutex;

use super::{
    ObjectAddress,
    store::{Store, failure_of, is_empty, is_missing_bucket, key_of, store_of},
};
use crate::{
    FetchCounts,
    ranged::{Failure, retried},
};

/// Files up to this size are sent at once; larger ones in parts.
const PART_BYTES: u64 = 8 << 20;
/// Storages take up to 10,000 parts.
const MAX_PARTS: u64 = 9_000;
/// Parts uploaded concurrently.
const SENDERS: usize = 4;

/// Whether an object exists.
pub(super) fn exists(address: &ObjectAddress) -> io::Result<bool> {
    let (store, key) = (store_of(address)?, key_of(address)?);
    retried(&FetchCounts::default(), || is_there(&*store, &key))
}

/// Asks for an object's first byte: answers to HEAD do not say what is wrong.
fn is_there(store: &dyn Store, key: &Key) -> Result<bool, Failure> {
    let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
    match block_on(store.get_opts(key, options)) {
        Ok(_) => Ok(true),
        Err(error) if is_empty(&error) => Ok(true),
        Err(error @ Error::NotFound { .. }) if !is_missing_bucket(&error) => Ok(false),
        Err(error) => Err(failure_of(&error)),
    }
}

/// Uploads a file.
pub(super) fn put(address: &ObjectAddress, path: &Path, replaces: bool) -> io::Result<()> {
    let (store, key) = (store_of(address)?, key_of(address)?);
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes <= PART_BYTES {
        return put_whole(&*store, &key, part(&file, 0, bytes)?, replaces);
    }
    put_parts(&*store, &key, &file, bytes, replaces)
}

/// Uploads bytes at once.
pub(super) fn put_bytes(address: &ObjectAddress, bytes: Bytes, replaces: bool) -> io::Result<()> {
    put_whole(&*store_of(address)?, &key_of(address)?, bytes, replaces)
}

/// Removes an object, if it exists.
pub(super) fn remove(address: &ObjectAddress) -> io::Result<()> {
    let (store, key) = (store_of(address)?, key_of(address)?);
    retried(&FetchCounts::default(), || match block_on(store.delete(&key)) {
        Err(error) if !matches!(error, Error::NotFound { .. }) => Err(failure_of(&error)),
        _ => Ok(()),
    })
}

/// The media type that players of objects expect, by the name.
fn content_type(key: &Key) -> Option<&'static str> {
    Some(match key.extension()? {
        "m3u8" => "application/vnd.apple.mpegurl",
        "ts" => "video/mp2t",
        "m4s" => "video/iso.segment",
        "mp4" | "m4v" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        _ => return None,
    })
}

fn part(file: &File, start: u64, bytes: u64) -> io::Result<Bytes> {
    let mut part = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, start)?;
    Ok(part.into())
}

fn put_whole(store: &dyn Store, key: &Key, bytes: Bytes, replaces: bool) -> io::Result<()> {
    let mode = if replaces { PutMode::Overwrite } else { PutMode::Create };
    let send = |mode: PutMode| {
        let mut attempt = 0;
        retried(&FetchCounts::default(), || {
            attempt += 1;
            let attributes = content_type(key).map(|name| (Attribute::ContentType, name)).into_iter().collect();
            let options = PutOptions { mode: mode.clone(), attributes, ..PutOptions::default() };
            match block_on(store.put_opts(key, PutPayload::from(bytes.clone()), options)) {
                Ok(_) => Ok(true),
                // For storage that cannot refuse to replace objects, existence was checked before.
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(false),
                // The attempt whose answer was lost has made it.
                Err(Error::AlreadyExists { .. }) if attempt > 1 && is_same(store, key, &bytes) => Ok(true),
                Err(error) => Err(failure_of(&error)),
            }
        })
    };
    let is_done = match send(mode) {
        Err(error) if !replaces && is_unsupported(&error) => false,
        sent => sent?,
    };
    if !is_done {
        send(PutMode::Overwrite)?;
    }
    Ok(())
}

/// Whether a storage does not know the condition that nothing is to be replaced.
fn is_unsupported(error: &io::Error) -> bool {
    let text = error.to_string();
    ["NotImplemented", "501 "].iter().any(|word| text.contains(word))
}

fn is_same(store: &dyn Store, key: &Key, bytes: &Bytes) -> bool {
    let found = block_on(async { store.get_opts(key, GetOptions::default()).await?.bytes().await });
    found.is_ok_and(|found| found == *bytes)
}

fn put_parts(store: &dyn Store, key: &Key, file: &File, bytes: u64, replaces: bool) -> io::Result<()> {
    let id = retried(&FetchCounts::default(), || block_on(store.create_multipart(key)).map_err(|error| failure_of(&error)))?;
    let done = send_parts(store, key, &id, file, bytes).and_then(|parts| {
        if !replaces && is_there(store, key).map_err(|failure| failure.error)? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists"));
        }
        retried(&FetchCounts::default(), || block_on(store.complete_multipart(key, &id, parts.clone())).map_err(|error| failure_of(&error)))
    });
    if done.is_err() {
        // Parts are invisible, and cost their owner money; the storage's own rules remove those that stay.
        let _ = block_on(store.abort_multipart(key, &id));
    }
    done.map(|_| ())
}

fn send_parts(store: &dyn Store, key: &Key, id: &String, file: &File, bytes: u64) -> io::Result<Vec<PartId>> {
    let part_bytes = PART_BYTES.max(bytes.div_ceil(MAX_PARTS));
    let count = usize::try_from(bytes.div_ceil(part_bytes)).map_err(io::Error::other)?;
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sent: Mutex<Vec<(usize, PartId)>> = Mutex::default();
    let send = || -> io::Result<()> {
        while !has_failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let start = number as u64 * part_bytes;
            let bytes = part(file, start, part_bytes.min(bytes - start))?;
            let put = || block_on(store.put_part(key, id, number, bytes.clone().into())).map_err(|error| failure_of(&error));
            let part = retried(&FetchCounts::default(), put)?;
            sent.lock().push((number, part));
        }
        Ok(())
    };
    let sender = || send().inspect_err(|_| has_failed.store(true, Ordering::Relaxed));
    let results = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS.min(count)).map(|_| scope.spawn(sender)).collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap_or_else(|_| Err(io::Error::other("an upload thread panicked"))))
            .collect::<Vec<_>>()
    });
    results.into_iter().collect::<io::Result<()>>()?;
    let mut sent = sent.into_inner();
    sent.sort_by_key(|(number, _)| *number);
    Ok(sent.into_iter().map(|(_, part)| part).collect())
}
