//! The routes under `/v1`. Each asks the node one thing and gives its own status types as JSON; what the node refuses
//! becomes a problem with the word of an exit code. No route decides anything.

use super::server::stamp;
use super::{
    BanRequest, Banned, Connected, MAX_BODY_BYTES, PeerRequest, Problem, Reloaded, VERSION, Version, events,
};
use crate::daemon::Reloads;
use crate::exit::{Code, Failure};
use crate::out;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use peerkeep::{
    Answer, BanStatus, CommandError, Node, NodeStatus, PeerAddress, PeerId, PeerStatus, Reason, Target, Why,
    parse_target,
};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long `connect` waits when the client does not say.
const DEFAULT_WAIT_MS: u64 = 15_000;
/// The longest a client may make it wait.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// A body that has not arrived by then is refused.
const BODY_TIME: Duration = Duration::from_secs(5);
/// The shortest end of an id that may stand for it.
const MIN_SHORT_ID: usize = 4;

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// The node.
    pub node: Node,
    /// Where a reload is asked for.
    pub reloads: Reloads,
}

/// All routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/peers", get(peers))
        .route("/v1/peers/{id}", get(peer))
        .route("/v1/peers/{id}/why", get(why))
        .route("/v1/connect", post(connect))
        .route("/v1/want", post(want))
        .route("/v1/unwant", post(unwant))
        .route("/v1/disconnect", post(disconnect))
        .route("/v1/cancel", post(cancel))
        .route("/v1/retry", post(retry))
        .route("/v1/reset", post(reset))
        .route("/v1/bans", get(bans).post(ban))
        .route("/v1/unban", post(unban))
        .route("/v1/events", get(follow))
        .route("/v1/config", get(config))
        .route("/v1/config/reload", post(reload))
        .fallback(async || Refused(Failure::new(Code::NotFound, "there is no such route")))
        .method_not_allowed_fallback(async || {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(Problem::from(Failure::failed("this route takes another method"))),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(async |request: Request, next: Next| stamp(next.run(request).await)))
        .with_state(api)
}

/// A failure as a response.
struct Refused(Failure);

type Said<T> = Result<Json<T>, Refused>;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            Code::Usage | Code::Config => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        (status, Json(Problem::from(self.0))).into_response()
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused(failure)
    }
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Refused {
        Refused(explain(&error))
    }
}

/// A body of JSON that arrives in time and fits.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, api: &Api) -> Result<Body<T>, Refused> {
        let read = Json::<T>::from_request(request, api);
        match tokio::time::timeout(BODY_TIME, read).await {
            Ok(Ok(Json(body))) => Ok(Body(body)),
            Ok(Err(JsonRejection::BytesRejection(_))) => {
                Err(Failure::new(Code::Usage, format!("a request may have {MAX_BODY_BYTES} bytes")).into())
            }
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
    api.node.status().await.map(Json).ok_or_else(|| Refused(explain(&CommandError::Stopped)))
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
        Ok(Json(if wait.is_zero() {
            Connected::Answer(api.node.connect_nowait(peer).await?)
        } else {
            Connected::Outcome(api.node.connect(peer, wait).await?)
        }))
    };
    noted("connect", &request.peer, asked.await)
}

async fn want(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    let asked = async { Ok(Json(api.node.want(address(&api.node, &request.peer).await?).await?)) };
    noted("want", &request.peer, asked.await)
}

async fn unwant(State(api): State<Api>, Body(request): Body<PeerRequest>) -> Said<Answer> {
    on_known(&api, "unwant", &request, async |node, id| node.unwant(id).await).await
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

/// Writes down what was refused, so that the log says why somebody's order had no effect.
fn noted<T>(what: &'static str, peer: &str, said: Said<T>) -> Said<T> {
    said.inspect_err(|refused| {
        let (peer, why) = (out::clean(peer), out::clean(&refused.0.message));
        tracing::info!(what, %peer, %why, "a command was refused");
    })
}

async fn bans(State(api): State<Api>) -> Json<Vec<BanStatus>> {
    Json(api.node.bans().await)
}

async fn ban(State(api): State<Api>, Body(request): Body<BanRequest>) -> Said<Banned> {
    let target = target(&request.target)?;
    let span = request.for_ms.map(Duration::from_millis);
    Ok(Json(Banned { target: api.node.ban(target, span).await? }))
}

async fn unban(State(api): State<Api>, Body(request): Body<BanRequest>) -> Said<Banned> {
    let target = target(&request.target)?;
    match api.node.unban(target).await {
        Ok(target) => Ok(Json(Banned { target })),
        Err(CommandError::Refused(Reason::Unknown)) => {
            let failure = Failure::new(Code::NotFound, format!("{} is not banned", request.target));
            Err(failure.next("`peerkeep bans` lists the bans").into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn follow(State(api): State<Api>) -> Response {
    events::respond(api.node.events()).into_response()
}

async fn config(State(api): State<Api>) -> Json<serde_json::Value> {
    let settings = api.node.settings();
    Json(serde_json::json!({
        "settings": crate::settings::to_json(&settings),
        "text": settings.to_toml(),
    }))
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

fn explain(error: &CommandError) -> Failure {
    let message = error.to_string();
    match error {
        CommandError::Address(_) => Failure::new(Code::Usage, message)
            .next("an address looks like /ip4/192.0.2.7/tcp/7330/p2p/12D3KooW..., as `peerkeep status` prints it there"),
        CommandError::Refused(reason) => refused(*reason, message),
        CommandError::Settings(_) => Failure::new(Code::Config, message),
        CommandError::NeedsRestart(_) => Failure::new(Code::Config, message).next("restart the daemon"),
        CommandError::Name(_) => Failure::failed(message).next("check the name, or use an IP address"),
        CommandError::Busy => Failure::failed(message).next("try again in a moment"),
        CommandError::Stopped => Failure::new(Code::NotRunning, message).next("start it again with `peerkeep run`"),
    }
}

fn refused(reason: Reason, message: String) -> Failure {
    let failure = Failure::failed(message);
    match reason {
        Reason::Unknown => {
            Failure { code: Code::NotFound, ..failure }.next("`peerkeep peers` lists the known peers")
        }
        Reason::Banned => {
            failure.next("`peerkeep bans` shows for how long; `peerkeep unban TARGET` lifts it")
        }
        Reason::GaveUp => {
            failure.next("`peerkeep reset ID` starts over, `peerkeep want ADDR` never gives up")
        }
        Reason::NoAddress => failure.next("name one: `peerkeep connect ADDR`"),
        Reason::Full { .. } => {
            failure.next("raise the limit in the configuration and run `peerkeep config reload`")
        }
        Reason::BadTarget => failure.next("ban a narrower subnet"),
        Reason::NotNow => failure.next("`peerkeep why ID` says where the peer stands"),
        _ => failure,
    }
}
