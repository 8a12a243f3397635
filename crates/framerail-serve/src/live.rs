//! Responses that wait: the next image, an endless series of images, statistics once per second.

use std::{sync::Arc, time::Duration};

use framerail_core::StreamId;
use hyper::{StatusCode, body::Bytes};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

use crate::{
    LiveImage,
    body::{Answer, Reply, answer, failed, whole, with_header},
    site::Site,
};

/// How long a request for an image waits for one.
const PICTURE_PATIENCE: Duration = Duration::from_secs(3);
/// How often a waiting request renews its interest in images.
const RENEWAL: Duration = Duration::from_secs(1);
/// Interval of reports to the page.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

const BOUNDARY: &str = "framerail-picture";
const MULTIPART: &str = "multipart/x-mixed-replace; boundary=framerail-picture";

/// The first image with a sequence number above `after`; waits until an instant or the end of the run.
async fn image_after(site: &Site, stream: StreamId, after: u64, until: Instant) -> Option<Arc<LiveImage>> {
    let mut closing = site.closing.subscribe();
    loop {
        let mut latest = site.images.want(stream);
        let newer = latest.wait_for(|image| image.as_ref().is_some_and(|image| image.sequence > after));
        let wake = until.min(Instant::now() + RENEWAL);
        tokio::select! {
            newer = timeout_at(wake, newer) => if let Ok(Ok(image)) = newer {
                return image.clone();
            },
            _ = closing.wait_for(|closing| *closing) => return None,
        }
        if Instant::now() >= until || !site.is_live() {
            return None;
        }
    }
}

/// The next image of a stream, encoded for this request; or one newer than the client's sequence number.
pub(crate) async fn image(site: &Site, stream: StreamId, after: u64) -> Answer {
    let until = Instant::now() + PICTURE_PATIENCE;
    let Some(image) = image_after(site, stream, after, until).await else {
        let failure = site.images.failure();
        if failure.is_none() && after > 0 {
            // The client already has the latest image.
            return answer(StatusCode::NO_CONTENT, "image/jpeg", Reply::Whole(None));
        }
        let why = failure.unwrap_or_else(|| format!("no frame of stream {stream} within 3 s"));
        return with_header(failed(StatusCode::SERVICE_UNAVAILABLE, &why), "retry-after", "1");
    };
    let mut reply = whole("image/jpeg", image.jpeg.clone());
    for (name, value) in [
        ("x-framerail-sequence", image.sequence.to_string()),
        ("x-framerail-frame", image.frame.to_string()),
        ("x-framerail-seconds", format!("{:.3}", image.seconds)),
        ("x-framerail-detections", image.detections.to_string()),
    ] {
        reply = with_header(reply, name, &value);
    }
    reply
}

/// Images of a stream as they are encoded; skips those for which the client is too slow.
pub(crate) fn images(site: &Arc<Site>, stream: StreamId) -> Answer {
    let (parts, receiver) = mpsc::channel(1);
    let site = Arc::clone(site);
    tokio::spawn(async move {
        let mut after = 0;
        while site.is_live() {
            // Waiting for capacity first ensures that the image is recent.
            let Ok(room) = parts.reserve().await else { return };
            let until = Instant::now() + RENEWAL;
            let Some(image) = image_after(&site, stream, after, until).await else { continue };
            after = image.sequence;
            room.send(part(&image));
        }
    });
    answer(StatusCode::OK, MULTIPART, Reply::Parts(receiver))
}

fn part(image: &LiveImage) -> Bytes {
    let (length, frame, seconds) = (image.jpeg.len(), image.frame, image.seconds);
    let head = format!(
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\nX-Framerail-Frame: {frame}\r\n\
         X-Framerail-Seconds: {seconds:.3}\r\n\r\n"
    );
    let mut bytes = Vec::with_capacity(head.len() + length + 2);
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&image.jpeg);
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

/// Server-sent events: `history` first, then `report` once per second, and a last one when the server closes.
pub(crate) fn events(site: &Arc<Site>) -> Answer {
    let (parts, receiver) = mpsc::channel(1);
    let site = Arc::clone(site);
    tokio::spawn(async move {
        let history = event("history", site.history.lock().samples());
        if parts.send(history).await.is_err() {
            return;
        }
        let mut closing = site.closing.subscribe();
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = *closing.borrow_and_update();
            let Some(report) = site.report() else { return };
            if parts.send(event("report", &report)).await.is_err() {
                return;
            }
            if is_last {
                let _ = parts.send(event("end", &())).await;
                return;
            }
            tokio::select! {
                _ = ticks.tick() => {}
                _ = closing.changed() => {}
            }
        }
    });
    answer(StatusCode::OK, "text/event-stream", Reply::Parts(receiver))
}

fn event(name: &str, value: &impl serde::Serialize) -> Bytes {
    let data = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// Adds a sample to the history once per second until the server closes.
pub(crate) async fn keep_history(site: Arc<Site>) {
    let mut closing = site.closing.subscribe();
    while let Some(run) = site.run().filter(|run| !run.is_over()) {
        let sample = crate::history::Sample::of(&run.stats());
        site.history.lock().add(sample);
        if timeout(REPORT_INTERVAL, closing.changed()).await.is_ok() {
            return;
        }
    }
}
