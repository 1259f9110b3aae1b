//! What the node refuses, as a response: a status, the word of an exit code, document 001's word where it has one, and
//! what to do next. It refuses nothing itself.

use super::Problem;
use crate::exit::{Code, Failure};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use peerkeep::{ChannelError, CommandError, Reason};

/// A failure as a response.
pub struct Refused {
    /// What is said.
    pub failure: Failure,
}

/// What a route answers.
pub type Said<T> = Result<Json<T>, Refused>;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.failure.code {
            Code::Usage | Code::Config => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
            Code::Limit => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::CONFLICT,
        };
        let mut response = (status, Json(Problem::from(self.failure))).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused { failure }
    }
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Refused {
        Refused { failure: Failure { refusal: error.establish_error(), ..explain(&error) } }
    }
}

impl From<ChannelError> for Refused {
    fn from(error: ChannelError) -> Refused {
        let message = error.to_string();
        let failure = match error {
            ChannelError::NotConnected => {
                Failure::failed(message).next("`peerkeep why ID` says why; `peerkeep connect ADDR` connects")
            }
            ChannelError::Unsupported => Failure::failed("the other side is too old to be measured"),
            ChannelError::Busy => Failure::new(Code::Limit, "another measurement is under way")
                .next("try again when it is over"),
            ChannelError::Timeout => Failure::new(Code::Timeout, message),
            ChannelError::Stopped => Failure::new(Code::NotRunning, message),
            _ => Failure::failed(message),
        };
        failure.into()
    }
}

/// A command's error with its exit code and advice.
pub fn explain(error: &CommandError) -> Failure {
    let message = error.to_string();
    match error {
        CommandError::Address(_) => Failure::new(Code::Usage, message)
            .next("an address looks like /ip4/192.0.2.7/tcp/7330/p2p/12D3KooW..., as `peerkeep status` prints it there"),
        CommandError::Refused(reason) => refused(*reason, message),
        CommandError::Settings(_) => Failure::new(Code::Config, message),
        CommandError::NeedsRestart(_) => Failure::new(Code::Config, message).next("restart the daemon"),
        CommandError::Name(_) => Failure::failed(message).next("check the name, or use an IP address"),
        CommandError::Busy => Failure::new(Code::Limit, message).next("try again in a moment"),
        CommandError::Stopped => Failure::new(Code::NotRunning, message).next("start it again with `peerkeep run`"),
    }
}

fn refused(reason: Reason, message: String) -> Failure {
    let failure = Failure::failed(message);
    let with = |code| Failure { code, ..failure.clone() };
    match reason {
        Reason::Unknown => with(Code::NotFound).next("`peerkeep peers` lists the known peers"),
        Reason::Banned => {
            with(Code::Banned).next("`peerkeep bans` shows for how long; `peerkeep unban TARGET` lifts it")
        }
        Reason::GaveUp => {
            failure.next("`peerkeep reset ID` starts over, `peerkeep want ADDR` never gives up")
        }
        Reason::NoAddress => with(Code::NoAddress).next("name one: `peerkeep connect ADDR`"),
        Reason::Full { .. } => {
            with(Code::Limit).next("raise the limit in the configuration and run `peerkeep config reload`")
        }
        Reason::AlreadyConnected => with(Code::AlreadyConnected),
        Reason::Draining => with(Code::NotRunning).next("wait until it has stopped, then start it again"),
        Reason::BadTarget => failure.next("ban a narrower subnet"),
        Reason::NotNow => failure.next("`peerkeep why ID` says where the peer stands"),
        _ => failure,
    }
}
