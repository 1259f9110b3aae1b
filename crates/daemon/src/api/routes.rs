//! The routes under `/v1`. Each asks the node one thing and gives its own status types as JSON; what the node refuses
//! becomes a problem with the word of an exit code. No route decides anything.

use super::describe::{About, Routes};
use super::once::Once;
use super::refuse::{Refused, Said};
use super::server::stamp;
use super::{
    AddressQuery, BanRequest, Banned, Configuration, Connected, Health, LimitsReached, MAX_BODY_BYTES,
    PeerRequest, Problem, Reloaded, Resolved, VERSION, Version, events,
};
use crate::daemon::Reloads;
use crate::exit::{Code, Failure};
use crate::out;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use peerkeep::{
    Answer, BanStatus, CommandError, Event, Measurement, Node, NodeStatus, PeerAddress, PeerId, PeerStatus,
    PendingStatus, Place, Reason, Settings, Target, Why, parse_target,
};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long `connect` waits when the client does not say.
const DEFAULT_WAIT_MS: u64 = 15_000;
/// The longest a client may make it wait.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// An order that is kept across restarts is answered when it is stored. A disk that takes longer is an ailment of the
/// node, and no reason not to answer.
const SAVING: Duration = Duration::from_secs(2);
/// A body that has not arrived by then is refused.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Most programs that follow the events at once: orders always find a free connection (fault A7).
const MAX_READERS: usize = 32;
/// The shortest end of an id that may stand for it.
const MIN_SHORT_ID: usize = 4;

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// The node.
    pub node: Node,
    /// Where a reload is asked for.
    pub reloads: Reloads,
    /// Places for those who follow the events.
    pub readers: Arc<Semaphore>,
}

impl Api {
    /// Of that node.
    pub fn new(node: Node, reloads: Reloads) -> Api {
        Api { node, reloads, readers: Arc::new(Semaphore::new(MAX_READERS)) }
    }
}

/// All routes, as they are served.
pub fn router(api: Api) -> Router {
    let once = Once::default();
    let (routes, _) = all().finish();
    routes
        .fallback(async || Refused::from(Failure::new(Code::NotFound, "there is no such route")))
        .method_not_allowed_fallback(async || {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(Problem::from(Failure::failed("this route takes another method"))),
            )
        })
        .layer(from_fn(move |request: Request, next: Next| once.clone().guard(request, next)))
        .layer(from_fn(refuse_long))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(async |request: Request, next: Next| stamp(next.run(request).await)))
        .with_state(api)
}

/// A body that says itself that it is too long is not waited for (fault A6).
async fn refuse_long(request: Request, next: Next) -> Response {
    let length =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX) => {
            Refused::from(too_long()).into_response()
        }
        _ => next.run(request).await,
    }
}

fn too_long() -> Failure {
    Failure::new(Code::Usage, format!("a request may have {MAX_BODY_BYTES} bytes"))
}

/// The document that describes them.
pub fn document() -> serde_json::Value {
    all().finish().1
}

fn all() -> Routes {
    let order = |summary| About::new(summary).takes::<PeerRequest>().gives::<Answer>();
    let address = "An address in any form that `connect` takes.";
    Routes::new()
        .get("/openapi.json", openapi, &About::new("This document"))
        .get("/v1/version", version, &About::new("Which program answers").gives::<Version>())
        .get("/v1/live", live, &About::new("Whether the process answers at all").gives::<Health>())
        .get("/v1/ready", ready, &About::new("Whether it takes orders; 503 when not").gives::<Health>())
        .get("/v1/status", status, &About::new("The node itself").gives::<NodeStatus>())
        .get("/v1/peers", peers, &About::new("Every known peer").gives::<Vec<PeerStatus>>())
        .get("/v1/peers/{id}", peer, &About::new("One peer").gives::<PeerStatus>())
        .get("/v1/peers/{id}/why", why, &About::new("Why it is, or is not, connected").gives::<Why>())
        .get(
            "/v1/pending",
            pending,
            &About::new("The connections being set up, in both directions").gives::<Vec<PendingStatus>>(),
        )
        .get(
            "/v1/limits",
            limits,
            &About::new("Which limits are reached").query("address", address).gives::<LimitsReached>(),
        )
        .get(
            "/v1/resolve",
            resolve,
            &About::new("Whose address it is").query("address", address).gives::<Resolved>(),
        )
        .post("/v1/connect", connect, &About::new("Connect once").takes::<PeerRequest>().gives::<Connected>())
        .post("/v1/want", want, &order("Keep a peer connected"))
        .post("/v1/unwant", unwant, &order("Keep it connected no longer"))
        .post("/v1/disconnect", disconnect, &order("Close its connection"))
        .post("/v1/cancel", cancel, &order("Abandon the attempt in progress"))
        .post("/v1/retry", retry, &order("Try again now"))
        .post("/v1/reset", reset, &order("Forget attempts, and close"))
        .post(
            "/v1/measure",
            measure,
            &About::new("Measure round trip and bandwidth to a connected peer, with up to 22 MiB of filling")
                .takes::<PeerRequest>()
                .gives::<Measurement>(),
        )
        .get("/v1/bans", bans, &About::new("The bans in force").gives::<Vec<BanStatus>>())
        .post("/v1/bans", ban, &About::new("Ban").takes::<BanRequest>().gives::<Banned>())
        .post("/v1/unban", unban, &About::new("Lift a ban").takes::<BanRequest>().gives::<Banned>())
        .get(
            "/v1/events",
            follow,
            &About::new("What happens, as server-sent events; `last-event-id` goes on after one")
                .streams::<Event>(),
        )
        .get("/v1/config", config, &About::new("The settings in force").gives::<Configuration>())
        .post("/v1/config/reload", reload, &About::new("Read the file again").gives::<Reloaded>())
}

/// A body of JSON that arrives in time and fits.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, api: &Api) -> Result<Body<T>, Refused> {
        let read = Json::<T>::from_request(request, api);
        match tokio::time::timeout(BODY_TIME, read).await {
            Ok(Ok(Json(body))) => Ok(Body(body)),
            Ok(Err(JsonRejection::BytesRejection(_))) => Err(too_long().into()),
            Ok(Err(error)) => Err(Failure::new(Code::Usage, error.body_text()).into()),
            Err(_) => Err(Failure::new(Code::Timeout, "the request did not arrive in time").into()),
        }
    }
}

async fn version() -> Json<Version> {
    Json(Version {
        name: "peerkeep".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        api: VERSION,
        pid: std::process::id(),
    })
}

async fn status(State(api): State<Api>) -> Said<NodeStatus> {
    api.node.status().await.map(Json).ok_or_else(|| CommandError::Stopped.into())
}

async fn openapi() -> Json<serde_json::Value> {
    Json(document())
}

async fn live(State(api): State<Api>) -> Json<Health> {
    Json(health(&api).await)
}

async fn ready(State(api): State<Api>) -> Response {
    let health = health(&api).await;
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// A node with an ailment still takes orders: it is degraded, not unready (fault A15).
async fn health(api: &Api) -> Health {
    match api.node.status().await {
        None => Health { ready: false, why: Some("the node has stopped".into()), ailments: Vec::new() },
        Some(status) => Health {
            ready: !status.draining,
            why: status.draining.then(|| "the node is going down".into()),
            ailments: status.health,
        },
    }
}

async fn limits(State(api): State<Api>, Query(asked): Query<AddressQuery>) -> Said<LimitsReached> {
    let reached = match asked.address {
        None => None,
        Some(text) => match text.parse::<PeerAddress>().map_err(CommandError::from)?.place {
            Some(Place::Ip(at)) => api.node.connection_limits_reached(at).await?,
            _ => return Err(Failure::new(Code::Usage, "limits are about an IP address").into()),
        },
    };
    Ok(Json(LimitsReached { inbound_full: api.node.is_inbound_full().await?, reached }))
}

async fn resolve(State(api): State<Api>, Query(asked): Query<AddressQuery>) -> Said<Resolved> {
    let Some(text) = asked.address else {
        return Err(Failure::new(Code::Usage, "name the address: ?address=").into());
    };
    let address: PeerAddress = text.parse().map_err(CommandError::from)?;
    let peer = api.node.resolve_peer_id(&address).await?;
    let connected = api.node.is_connected_to_address(&address).await?;
    Ok(Json(Resolved { peer, connected }))
}

async fn peers(State(api): State<Api>) -> Json<Vec<PeerStatus>> {
    Json(api.node.peers().await)
}

async fn peer(State(api): State<Api>, Path(id): Path<String>) -> Said<PeerStatus> {
    let id = find(&api.node, &id).await?;
    api.node.peer(id).await.map(Json).ok_or_else(|| unknown(&id.to_string()).into())
}

async fn why(State(api): State<Api>, Path(id): Path<String>) -> Said<Why> {
    let id = find(&api.node, &id).await?;
    api.node.why(id).await.map(Json).ok_or_else(|| unknown(&id.to_string()).into())
}

async fn connect(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Connected> {
    let wait = Duration::from_millis(request.wait_ms.unwrap_or(DEFAULT_WAIT_MS)).min(MAX_WAIT);
    let asked = async {
        let peer = address(&api.node, &request.peer).await?;
        Ok(Json(if !request.queue.unwrap_or(true) {
            Connected::Outcome(api.node.establish(peer, wait).await?)
        } else if wait.is_zero() {
            Connected::Answer(api.node.connect_nowait(peer).await?)
        } else {
            Connected::Outcome(api.node.connect(peer, wait).await?)
        }))
    };
    noted("connect", &request.peer, asked.await)
}

async fn want(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    let asked = async { Ok(Json(api.node.want(address(&api.node, &request.peer).await?).await?)) };
    kept(&api, noted("want", &request.peer, asked.await)).await
}

async fn unwant(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    let said = on_known(&api, "unwant", &request, async |node, id| node.unwant(id).await).await;
    kept(&api, said).await
}

async fn disconnect(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    on_known(&api, "disconnect", &request, async |node, id| node.disconnect(id).await).await
}

async fn cancel(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    on_known(&api, "cancel", &request, async |node, id| node.cancel(id).await).await
}

async fn retry(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    on_known(&api, "retry", &request, async |node, id| node.retry(id).await).await
}

async fn reset(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    on_known(&api, "reset", &request, async |node, id| node.reset(id).await).await
}

async fn measure(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Measurement> {
    let asked = async {
        let id = find(&api.node, &request.peer).await?;
        Ok(Json(api.node.measure(id).await?))
    };
    noted("measure", &request.peer, asked.await)
}

/// Asks something of a peer that is known.
async fn on_known(
    api: &Api,
    what: &'static str,
    request: &PeerRequest,
    act: impl AsyncFnOnce(&Node, PeerId) -> Result<Answer, CommandError>,
) -> Said<Answer> {
    let asked = async {
        let id = find(&api.node, &request.peer).await?;
        Ok(Json(act(&api.node, id).await?))
    };
    noted(what, &request.peer, asked.await)
}

/// Says yes only when a kill cannot take it back.
async fn kept<T>(api: &Api, said: Said<T>) -> Said<T> {
    if said.is_ok() {
        api.node.saved(SAVING).await;
    }
    said
}

/// Writes down what was refused, so that the log says why somebody's order had no effect.
fn noted<T>(what: &'static str, peer: &str, said: Said<T>) -> Said<T> {
    said.inspect_err(|refused| {
        let (peer, why) = (out::clean(peer), out::clean(&refused.failure.message));
        tracing::info!(what, %peer, %why, "a command was refused");
    })
}

async fn pending(State(api): State<Api>) -> Json<Vec<PendingStatus>> {
    Json(api.node.pending().await)
}

async fn bans(State(api): State<Api>) -> Json<Vec<BanStatus>> {
    Json(api.node.bans().await)
}

async fn ban(State(api): State<Api>, Body(request): Body<BanRequest>) -> Said<Banned> {
    let target = target(&request.target)?;
    let span = request.for_ms.map(Duration::from_millis);
    let target = api.node.ban(target, span).await?;
    kept(&api, Ok(Json(Banned { target }))).await
}

async fn unban(State(api): State<Api>, Body(request): Body<BanRequest>) -> Said<Banned> {
    let target = target(&request.target)?;
    match api.node.unban(target).await {
        Ok(target) => kept(&api, Ok(Json(Banned { target }))).await,
        Err(CommandError::Refused(Reason::Unknown)) => {
            let failure = Failure::new(Code::NotFound, format!("{} is not banned", request.target));
            Err(failure.next("`peerkeep bans` lists the bans").into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn follow(State(api): State<Api>, headers: HeaderMap) -> Response {
    let Ok(place) = api.readers.clone().try_acquire_owned() else {
        let failure = Failure::new(Code::Limit, format!("{MAX_READERS} programs follow the events already"));
        return Refused::from(failure.next("end one of them")).into_response();
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    events::respond(&api.node, last, place).await
}

async fn config(State(api): State<Api>) -> Json<Configuration> {
    let settings = api.node.settings();
    Json(Configuration {
        settings: crate::settings::to_json(&settings),
        text: settings.to_toml(),
        fixed: Settings::FIXED.iter().map(|key| (*key).to_owned()).collect(),
    })
}

async fn reload(State(api): State<Api>) -> Said<Reloaded> {
    Ok(Json(api.reloads.ask().await?))
}

fn target(text: &str) -> Result<Target, Failure> {
    parse_target(text).map_err(|error| {
        Failure::new(Code::Usage, error.to_string())
            .next("name a peer id, an IP address, or a subnet such as 203.0.113.0/24")
    })
}

/// The address that a text means: anything `connect` takes, or the end of a known peer's id.
async fn address(node: &Node, text: &str) -> Result<PeerAddress, Refused> {
    match text.parse::<PeerAddress>() {
        Ok(address) => Ok(address),
        Err(error) => match find(node, text).await {
            Ok(id) => Ok(PeerAddress::known(id)),
            Err(_) => Err(CommandError::from(error).into()),
        },
    }
}

/// The peer that a text means: an id, the end of one, or an address it is known by.
async fn find(node: &Node, text: &str) -> Result<PeerId, Failure> {
    if let Ok(id) = text.parse::<PeerId>() {
        return Ok(id);
    }
    let place = match text.parse::<PeerAddress>() {
        Ok(PeerAddress { id: Some(id), .. }) => return Ok(id),
        Ok(address) => address.to_multiaddr().map(|address| address.to_string()),
        Err(_) => None,
    };
    // Rare and asked by a person: a scan over the known peers is affordable here.
    let end = text.trim_start_matches('…');
    let mut found = node.peers().await.into_iter().filter(|peer| match &place {
        Some(place) => peer.addresses.iter().any(|known| known.address == *place),
        None => end.len() >= MIN_SHORT_ID && peer.id.to_string().ends_with(end),
    });
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer.id),
        (Some(_), Some(_)) => {
            Err(Failure::new(Code::Usage, format!("{text} means more than one peer"))
                .next("give more of the id"))
        }
        (None, _) => Err(unknown(text)),
    }
}

fn unknown(text: &str) -> Failure {
    Failure::new(Code::NotFound, format!("no peer {text} is known"))
        .next("`peerkeep peers` lists those that are")
}
