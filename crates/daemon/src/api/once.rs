//! Orders that are sent twice: with the header `idempotency-key` the second one has no effect of its own and gets the
//! first one's answer (fault A8). Bounded in number, size and time; without the header nothing is remembered.

use super::{MAX_BODY_BYTES, Problem};
use crate::exit::{Code, Failure};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The header that names an order.
pub const KEY_HEADER: &str = "idempotency-key";
/// The header of an answer that was given before.
pub const REPLAY_HEADER: &str = "idempotent-replay";
/// Orders remembered; the oldest are forgotten first.
const MAX_ORDERS: usize = 256;
/// How long one is remembered.
const MEMORY: Duration = Duration::from_secs(600);
const MAX_KEY_BYTES: usize = 128;
/// Longest answer kept; answers to orders are short.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// As for every request: a body that has not arrived by then is refused.
const BODY_TIME: Duration = Duration::from_secs(5);

/// The orders remembered.
#[derive(Debug, Clone, Default)]
pub struct Once(Arc<Mutex<VecDeque<Order>>>);

#[derive(Debug)]
struct Order {
    key: String,
    path: String,
    body: Bytes,
    at: Instant,
    /// `None` while it is being carried out.
    answer: Option<(StatusCode, Bytes)>,
}

enum Found {
    New,
    Same(StatusCode, Bytes),
    UnderWay,
    Other,
}

impl Once {
    /// Carries a request out, unless it was before.
    pub async fn guard(self, request: Request, next: Next) -> Response {
        if request.method() != Method::POST {
            return next.run(request).await;
        }
        let key = match key_of(request.headers()) {
            Key::None => return next.run(request).await,
            Key::Named(key) => key,
            Key::Wrong => {
                let why = "an idempotency-key is one text of 1 to 128 characters";
                return refuse(StatusCode::BAD_REQUEST, why);
            }
        };
        let (parts, body) = request.into_parts();
        let body = match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY_BYTES)).await {
            Ok(Ok(body)) => body,
            _ => return refuse(StatusCode::BAD_REQUEST, "the request is too long or did not arrive in time"),
        };
        let path = parts.uri.path().to_owned();
        match self.find(&key, &path, &body) {
            Found::New => {}
            Found::Same(status, answer) => return replay(status, answer),
            Found::UnderWay => return refuse(StatusCode::CONFLICT, "the same order is being carried out"),
            Found::Other => {
                return refuse(StatusCode::BAD_REQUEST, "this idempotency-key was used for another order");
            }
        }
        // Who goes away in between leaves an order whose outcome nobody knows: it may be given again.
        let mut forget = Forget { once: &self, key: &key, armed: true };
        let (parts, body) = next.run(Request::from_parts(parts, Body::from(body))).await.into_parts();
        let Ok(answer) = to_bytes(body, MAX_ANSWER_BYTES).await else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too long");
        };
        forget.armed = false;
        self.answered(&key, parts.status, &answer);
        Response::from_parts(parts, Body::from(answer))
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, VecDeque<Order>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str, path: &str, body: &Bytes) -> Found {
        let mut orders = self.orders();
        orders.retain(|order| order.at.elapsed() < MEMORY);
        match orders.iter().find(|order| order.key == key) {
            Some(order) if order.path != path || order.body != *body => Found::Other,
            Some(Order { answer: Some((status, answer)), .. }) => Found::Same(*status, answer.clone()),
            Some(_) => Found::UnderWay,
            None => {
                if orders.len() >= MAX_ORDERS {
                    orders.pop_front();
                }
                let (key, path, body) = (key.to_owned(), path.to_owned(), body.clone());
                orders.push_back(Order { key, path, body, at: Instant::now(), answer: None });
                Found::New
            }
        }
    }

    fn answered(&self, key: &str, status: StatusCode, answer: &Bytes) {
        let mut orders = self.orders();
        // A daemon that was busy or going down did nothing: the order may be given again.
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            orders.retain(|order| order.key != key);
        } else if let Some(order) = orders.iter_mut().find(|order| order.key == key) {
            order.answer = Some((status, answer.clone()));
        }
    }
}

struct Forget<'a> {
    once: &'a Once,
    key: &'a str,
    armed: bool,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.once.orders().retain(|order| order.key != self.key);
        }
    }
}

enum Key {
    None,
    Named(String),
    Wrong,
}

fn key_of(headers: &HeaderMap) -> Key {
    let mut all = headers.get_all(KEY_HEADER).iter();
    let Some(key) = all.next() else { return Key::None };
    let text = key.to_str().ok().filter(|text| !text.is_empty() && text.len() <= MAX_KEY_BYTES);
    match (text, all.next()) {
        (Some(text), None) => Key::Named(text.to_owned()),
        _ => Key::Wrong,
    }
}

fn replay(status: StatusCode, answer: Bytes) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let again = (header::HeaderName::from_static(REPLAY_HEADER), HeaderValue::from_static("true"));
    (status, [kind, again], answer).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(Problem::from(Failure::new(Code::Usage, why)))).into_response()
}
