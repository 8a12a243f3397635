//! Routes requests to their responses.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use framerail_core::{SourceUrl, StreamId, markup_escaped, percent_decoded, printable};
use framerail_pipeline::{ErrorKind, RunSwitch, StageError};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, Uri, body::Incoming, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    access::Refusal,
    body::{Answer, Reply, answer, failed, json, whole, with_header},
    door::Guest,
    health::Health,
    live, metrics,
    site::{Content, Site},
    sources::MAX_STREAMS,
};

/// Maximum size of a request body in bytes.
const MAX_BODY: usize = 16 * 1024;
/// Timeout for a request body.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/watch.css");
const SCRIPTS: [(&str, &str); 3] = [
    ("/watch.js", include_str!("page/watch.js")),
    ("/charts.js", include_str!("page/charts.js")),
    ("/pictures.js", include_str!("page/pictures.js")),
];
const ICON: &str = include_str!("page/icon.svg");

/// Handles a request.
pub(crate) async fn handle(site: Arc<Site>, guest: Guest, peer: SocketAddr, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let is_head = request.method() == Method::HEAD;
    let mut reply = checked(&site, guest, peer, request).await;
    if is_head {
        // A HEAD request for a stream gets only the head; the connection closes after it.
        *reply.body_mut() = Reply::Whole(None);
    }
    Ok(reply)
}

async fn checked(site: &Arc<Site>, guest: Guest, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if let Err(refusal) = site.access.check(request.method(), request.headers(), path == "/healthz") {
        return refused(site, refusal, &request).await;
    }
    if site.access.is_known(request.headers()) && !site.door.admit(guest) {
        return with_header(failed(StatusCode::SERVICE_UNAVAILABLE, "too many clients are connected"), "retry-after", "1");
    }
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return look(site, &path, &request).await;
    }
    match site.run() {
        Some(run) => change(site, run, &path, peer, request).await,
        None => not_allowed("GET"),
    }
}

async fn refused(site: &Site, refusal: Refusal, request: &Request<Incoming>) -> Answer {
    let uri = request.uri();
    match refusal {
        Refusal::Host => failed(StatusCode::MISDIRECTED_REQUEST, "unknown host name for this server; see --serve-host"),
        Refusal::Origin => failed(StatusCode::FORBIDDEN, "requests from other origins are refused"),
        Refusal::Token => {
            let given = query(uri, "token");
            let is_guess =
                given.is_some() || [header::AUTHORIZATION, header::COOKIE].iter().any(|name| request.headers().contains_key(name));
            if let Some(given) = given
                && let Some(cookie) = site.access.cookie_for(&given)
            {
                let reply = answer(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Reply::Whole(None));
                // Removes the token from the URL, and so from the browser's history.
                return with_header(with_header(reply, "set-cookie", &cookie), "location", uri.path());
            }
            if is_guess {
                site.guesses.hold_up().await;
            }
            let words = "a token is required: open the address with ?token=TOKEN once, or send `Authorization: Bearer TOKEN`";
            with_header(failed(StatusCode::UNAUTHORIZED, words), "www-authenticate", "Bearer")
        }
    }
}

/// Read-only requests.
async fn look(site: &Arc<Site>, path: &str, request: &Request<Incoming>) -> Answer {
    if let Some(file) = path.strip_prefix("/frames/") {
        return frames(site, file, request.uri()).await;
    }
    let Some(run) = site.run() else { return images_alone(site, path).await };
    match path {
        "/" => whole("text/html; charset=utf-8", PAGE),
        "/watch.css" => whole("text/css; charset=utf-8", STYLE),
        "/icon.svg" | "/favicon.ico" => whole("image/svg+xml", ICON),
        "/stats" => json(StatusCode::OK, &run.stats()),
        "/metrics" => whole(metrics::CONTENT_TYPE, metrics::metrics_text(&run.stats(), &Health::of(run))),
        "/healthz" => health(site, run, request),
        "/streams" => json(StatusCode::OK, &run.streams().stats()),
        "/settings" => json(StatusCode::OK, &run.settings()),
        "/models" => json(StatusCode::OK, &run.models()),
        "/graph.svg" => whole("image/svg+xml", site.graph().unwrap_or_default()),
        "/events" => live::events(site),
        "/stop" => not_allowed("POST"),
        _ => match SCRIPTS.iter().find(|(name, _)| *name == path) {
            Some((_, script)) => whole("text/javascript; charset=utf-8", *script),
            None => failed(StatusCode::NOT_FOUND, "not found"),
        },
    }
}

fn health(site: &Site, run: &RunSwitch, request: &Request<Incoming>) -> Answer {
    let health = Health::of(run);
    let status = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Without the token, only the state is shown.
    if site.access.is_known(request.headers()) { json(status, &health) } else { json(status, &json!({ "state": health.state })) }
}

/// Serves `STREAM.jpg` and `STREAM.mjpg`.
async fn frames(site: &Arc<Site>, file: &str, uri: &Uri) -> Answer {
    let file = percent_decoded(file);
    let Some((name, ending)) = file.rsplit_once('.').filter(|(_, ending)| matches!(*ending, "jpg" | "mjpg")) else {
        return failed(StatusCode::NOT_FOUND, "images are at /frames/STREAM.jpg and /frames/STREAM.mjpg");
    };
    let Some(stream) = site.stream(name) else {
        return failed(StatusCode::NOT_FOUND, &format!("there is no stream `{name}`"));
    };
    if let Content::Run { view: None, .. } = &site.content {
        return failed(StatusCode::NOT_FOUND, "this run has no frames to show");
    }
    if ending == "mjpg" {
        return live::images(site, stream);
    }
    let after = query(uri, "after").and_then(|after| after.parse().ok()).unwrap_or(0);
    live::image(site, stream, after).await
}

/// Pages of a server without a run.
async fn images_alone(site: &Arc<Site>, path: &str) -> Answer {
    match path {
        "/" => whole("text/html; charset=utf-8", index(site)),
        "/watch.css" => whole("text/css; charset=utf-8", STYLE),
        "/icon.svg" | "/favicon.ico" => whole("image/svg+xml", ICON),
        "/streams" => json(StatusCode::OK, &site.streams()),
        "/healthz" => json(StatusCode::OK, &json!({ "state": "running" })),
        _ => frames(site, path.trim_start_matches('/'), &Uri::default()).await,
    }
}

/// A page with an image of each stream, without scripts.
fn index(site: &Site) -> String {
    let image = |stream: &crate::NamedStream| {
        let (id, name) = (stream.id, escaped(&stream.name));
        format!(
            "<figure><img src=\"/{id}.mjpg\" alt=\"Live image of {name}\"><figcaption><a \
             href=\"/{id}.mjpg\">{name}</a></figcaption></figure>\n"
        )
    };
    let images: String = site.streams().iter().map(image).collect();
    let images = if images.is_empty() { "<p>No stream has started yet; reload the page.</p>".to_owned() } else { images };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>framerail: live</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/watch.css\"><link rel=\"icon\" \
         href=\"/icon.svg\"><main class=\"gallery\"><h1>Live</h1>\n{images}</main></html>\n"
    )
}

fn escaped(text: &str) -> String {
    markup_escaped(&printable(text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddStream {
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSetting {
    stage: String,
    name: String,
    value: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceModel {
    stage: String,
    model: String,
}

/// Requests that change the run.
async fn change(site: &Arc<Site>, run: &RunSwitch, path: &str, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    match (request.method().clone(), path) {
        (Method::POST, "/streams") if !site.access.has_token() => {
            failed(StatusCode::FORBIDDEN, "streams can be added only if a token is required; start the run with --serve-token")
        }
        (Method::POST, "/streams") => match body(request).await {
            Ok(AddStream { source }) => add_stream(site, run, peer, &source).await,
            Err(refusal) => refusal,
        },
        (Method::PUT, "/settings") => match body(request).await {
            Ok(SetSetting { stage, name, value }) => match run.set_setting(&stage, &name, value) {
                Ok(()) => json(StatusCode::OK, &run.settings()),
                Err(error) => from_stage(&error),
            },
            Err(refusal) => refusal,
        },
        (Method::PUT, "/models") if !site.access.has_token() => {
            failed(StatusCode::FORBIDDEN, "models can be replaced only if a token is required; start the run with --serve-token")
        }
        (Method::PUT, "/models") => match body(request).await {
            Ok(ReplaceModel { stage, model }) => replace_model(run, stage, model).await,
            Err(refusal) => refusal,
        },
        (Method::POST, "/stop") => {
            run.stop();
            json(StatusCode::ACCEPTED, &json!({ "stopping": true }))
        }
        (Method::DELETE, path) => match path.strip_prefix("/streams/") {
            Some(stream) => remove_stream(site, run, &percent_decoded(stream)),
            None => failed(StatusCode::NOT_FOUND, "streams are removed at /streams/STREAM"),
        },
        (_, "/streams") => not_allowed("GET, POST"),
        (_, "/settings") => not_allowed("GET, PUT"),
        (_, "/models") => not_allowed("GET, PUT"),
        (_, "/stop") => not_allowed("POST"),
        _ => not_allowed("GET"),
    }
}

async fn add_stream(site: &Arc<Site>, run: &RunSwitch, peer: SocketAddr, source: &str) -> Answer {
    let source = SourceUrl::new(source.trim());
    if source.reveal().is_empty() {
        return failed(StatusCode::BAD_REQUEST, "`source` is empty; give a file or an address");
    }
    let streams = run.streams();
    if streams.stats().iter().filter(|stream| !stream.state.is_over()).count() >= MAX_STREAMS {
        return failed(StatusCode::TOO_MANY_REQUESTS, &format!("{MAX_STREAMS} streams are being read, the maximum; remove one first"));
    }
    let site = Arc::clone(site);
    // The check may access the disk or resolve a name.
    let added = tokio::task::spawn_blocking(move || match site.sources.check(&source, peer.ip()) {
        Ok(()) => Ok(streams.add_source(source.reveal())),
        Err(reason) => Err(reason),
    });
    match added.await {
        Ok(Ok(Ok(id))) => json(StatusCode::CREATED, &json!({ "id": id.0 })),
        Ok(Ok(Err(error))) => from_stage(&error),
        Ok(Err(reason)) => failed(StatusCode::FORBIDDEN, &reason),
        Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "adding the stream failed; please report it"),
    }
}

async fn replace_model(run: &RunSwitch, stage: String, model: String) -> Answer {
    let run = run.clone();
    // Loading takes seconds.
    let replaced = tokio::task::spawn_blocking(move || run.replace_model(&stage, &model).map(|()| run.models()));
    match replaced.await {
        Ok(Ok(models)) => json(StatusCode::OK, &models),
        Ok(Err(error)) => from_stage(&error),
        Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "replacing the model failed; please report it"),
    }
}

fn remove_stream(site: &Site, run: &RunSwitch, wanted: &str) -> Answer {
    // Streams that still wait for their turn have IDs too. IDs take precedence over names, because names may be numbers.
    let stream = wanted.parse().map(StreamId).ok().or_else(|| site.stream(wanted));
    let removed = match stream {
        Some(stream) => run.streams().remove_stream(stream),
        None => Err(StageError::new(ErrorKind::Usage, format!("there is no stream `{wanted}`"))),
    };
    match removed {
        Ok(()) => json(StatusCode::OK, &json!({ "removed": wanted })),
        Err(error) => failed(StatusCode::NOT_FOUND, &error.message),
    }
}

fn from_stage(error: &StageError) -> Answer {
    let status = match error.kind {
        ErrorKind::Usage | ErrorKind::Input | ErrorKind::Model => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    failed(status, &error.message)
}

fn not_allowed(allowed: &str) -> Answer {
    with_header(failed(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed methods: {allowed}")), "allow", allowed)
}

/// Parses a JSON body. Requiring the content type blocks forms on other sites.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Answer> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
    }
    let collected = tokio::time::timeout(BODY_PATIENCE, Limited::new(request.into_body(), MAX_BODY).collect()).await;
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(failed(StatusCode::PAYLOAD_TOO_LARGE, &format!("requests are limited to {MAX_BODY} bytes")));
        }
        Ok(Err(_)) => return Err(failed(StatusCode::BAD_REQUEST, "the request was interrupted")),
        Err(_) => return Err(failed(StatusCode::REQUEST_TIMEOUT, "the request took too long")),
    };
    serde_json::from_slice(&bytes).map_err(|error| failed(StatusCode::BAD_REQUEST, &format!("invalid JSON in the request: {error}")))
}

/// Value of a query parameter.
fn query(uri: &Uri, key: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let mut values = pairs.filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == key);
    values.next().map(|(_, value)| percent_decoded(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_in_addresses_are_read() {
        for (coded, plain) in
            [("cam%201", "cam 1"), ("%C3%A9t%c3%a9", "été"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%", "%"), ("%+f", "%+f"), ("", "")]
        {
            assert_eq!(percent_decoded(coded), plain);
        }
        let uri: Uri = "/?a=1&token=x%2By&token=z".parse().expect("an address");
        assert_eq!((query(&uri, "token").as_deref(), query(&uri, "b")), (Some("x+y"), None));
    }
}
