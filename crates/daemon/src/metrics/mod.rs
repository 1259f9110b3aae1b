//! The endpoint that Prometheus reads: `GET /metrics` over TCP, off unless configured. It changes nothing, and a web
//! page cannot read it: whoever does not name it by its own address is refused before anything is looked at (fault A1),
//! and no header invites other origins.

mod text;

use crate::api::stall::Stall;
use crate::exit::{Code, Failure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use peerkeep::{MetricsSettings, Node};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Most readers at once; more are dropped.
const MAX_READERS: usize = 16;
/// Headers and answer have to be through by then.
const LONGEST: Duration = Duration::from_secs(10);
const HEADER_TIME: Duration = Duration::from_secs(5);
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A running endpoint. Dropping it closes the port.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    site: Arc<Site>,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// Whether it listens where those settings say. Its names are then changed with [`Endpoint::rename`].
    pub fn listens_at(&self, settings: &MetricsSettings) -> bool {
        settings.enabled && self.address == settings.address
    }

    /// Takes other names under which it may be asked.
    pub fn rename(&self, settings: &MetricsSettings) {
        let hosts = hosts(self.site.local, &settings.hosts);
        *self.site.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Begins to serve; nothing when it is switched off.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn open(settings: &MetricsSettings, node: &Node) -> Result<Option<Endpoint>, Failure> {
        if !settings.enabled {
            return Ok(None);
        }
        let listener = TcpListener::bind(settings.address).await.map_err(|error| {
            Failure::new(Code::Listen, format!("metrics.address: {}: {error}", settings.address))
                .next("choose another address, or set metrics.enabled = false")
        })?;
        let told = |error: std::io::Error| Failure::new(Code::Listen, format!("metrics.address: {error}"));
        let local = listener.local_addr().map_err(told)?;
        tracing::info!(address = %local, "serving metrics");
        let hosts = RwLock::new(hosts(local, &settings.hosts));
        let site = Arc::new(Site { local, hosts, node: node.clone() });
        let task = tokio::spawn(serve(listener, site.clone()));
        Ok(Some(Endpoint { address: settings.address, site, task }))
    }
}

#[derive(Debug)]
struct Site {
    local: SocketAddr,
    hosts: RwLock<Vec<String>>,
    node: Node,
}

/// The names that a request may ask for.
fn hosts(local: SocketAddr, more: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = more.iter().map(|host| host.to_ascii_lowercase()).collect();
    if !local.ip().is_unspecified() {
        hosts.push(local.to_string());
    }
    if local.ip().is_loopback() {
        hosts.push(format!("localhost:{}", local.port()));
    }
    hosts
}

async fn serve(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(MAX_READERS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a reader of the metrics was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let site = site.clone();
        tokio::spawn(async move {
            // However it trickles: nobody holds a place for longer.
            let _ = tokio::time::timeout(LONGEST, serve_one(stream, site)).await;
            drop(place);
        });
    }
}

async fn serve_one(stream: TcpStream, site: Arc<Site>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false);
    let service = service_fn(|request| answer(request, &site));
    let _ = http.serve_connection(TokioIo::new(Stall::new(stream, HEADER_TIME)), service).await;
}

async fn answer(request: Request<Incoming>, site: &Site) -> Result<Response<Full<Bytes>>, Infallible> {
    let hosts = site.hosts.read().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, body) = if !may_ask(request.headers(), &hosts) {
        (StatusCode::FORBIDDEN, "name this endpoint by its own address\n".to_owned())
    } else if request.uri().path() != "/metrics" {
        (StatusCode::NOT_FOUND, "the metrics are at /metrics\n".to_owned())
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        (StatusCode::METHOD_NOT_ALLOWED, "read only\n".to_owned())
    } else {
        match site.node.metrics().await.map(|all| text::write(&all)) {
            Some(Ok(text)) => (StatusCode::OK, text),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "the node has stopped\n".to_owned()),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Whether a request names us, and no browser sends it for a page of somebody else.
fn may_ask(headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let host = named.next().and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    let ours = named.next().is_none() && host.is_some_and(|host| hosts.contains(&host));
    let foreign = headers.contains_key(header::ORIGIN)
        || headers.get("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin");
    ours && !foreign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_a1_only_who_names_the_endpoint_by_its_own_address_is_answered() {
        let local: SocketAddr = ([127, 0, 0, 1], 7331).into();
        let hosts = hosts(local, &["Node.example.org:7331".to_owned()]);
        let asks = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            may_ask(&headers, &hosts)
        };
        for fine in ["127.0.0.1:7331", "localhost:7331", "LOCALHOST:7331", "node.example.org:7331"] {
            assert!(asks(&[("host", fine)]), "{fine}");
        }
        for bad in
            ["evil.com", "evil.com:7331", "127.0.0.1", "localhost", "127.0.0.1:80", "127.0.0.1:7331.evil.com"]
        {
            assert!(!asks(&[("host", bad)]), "{bad}");
        }
        assert!(!asks(&[]), "no name at all");
        assert!(!asks(&[("host", "localhost:7331"), ("host", "evil.com")]), "two names");
        assert!(!asks(&[("host", "localhost:7331"), ("origin", "http://evil.com")]));
        assert!(!asks(&[("host", "localhost:7331"), ("sec-fetch-site", "cross-site")]));
        assert!(asks(&[("host", "localhost:7331"), ("sec-fetch-site", "none")]), "typed into a browser");
    }
}
