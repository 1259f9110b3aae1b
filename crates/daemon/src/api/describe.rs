//! Routes and their description in one place: a route that is served is described, because both come from the same
//! call. The document is OpenAPI 3.1; the schemas come from the types that are really sent.

use super::routes::Api;
use super::{Problem, VERSION};
use axum::Router;
use axum::handler::Handler;
use axum::routing::{get, post};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// What a route is for, takes and gives.
pub struct About {
    summary: &'static str,
    query: Vec<(&'static str, &'static str)>,
    takes: Option<fn(&mut SchemaGenerator) -> Schema>,
    gives: Option<fn(&mut SchemaGenerator) -> Schema>,
    kind: &'static str,
}

impl About {
    /// A route that answers with any JSON.
    pub fn new(summary: &'static str) -> About {
        About { summary, query: Vec::new(), takes: None, gives: None, kind: "application/json" }
    }

    /// The type of its request.
    pub fn takes<T: JsonSchema>(mut self) -> About {
        self.takes = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// The type of its answer.
    pub fn gives<T: JsonSchema>(mut self) -> About {
        self.gives = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// It answers with server-sent events, whose data is of that type.
    pub fn streams<T: JsonSchema>(mut self) -> About {
        self.kind = "text/event-stream";
        self.gives::<T>()
    }

    /// An optional parameter of the query.
    pub fn query(mut self, name: &'static str, what: &'static str) -> About {
        self.query.push((name, what));
        self
    }
}

/// Routes being collected.
pub struct Routes {
    router: Router<Api>,
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Routes {
    /// None yet.
    pub fn new() -> Routes {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Routes { router: Router::new(), generator: settings.into_generator(), paths: Map::new() }
    }

    /// A question. It changes nothing.
    pub fn get<H, T>(mut self, path: &'static str, handler: H, about: &About) -> Routes
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        self.describe("get", path, about);
        self.router = self.router.route(path, get(handler));
        self
    }

    /// An order.
    pub fn post<H, T>(mut self, path: &'static str, handler: H, about: &About) -> Routes
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        self.describe("post", path, about);
        self.router = self.router.route(path, post(handler));
        self
    }

    /// The router, and the document that describes it.
    pub fn finish(mut self) -> (Router<Api>, Value) {
        let problem = self.generator.subschema_for::<Problem>();
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Peerkeep",
                "version": format!("{VERSION}"),
                "description": "The API of a running node, on its unix socket only. Every answer carries the header \
                    `peerkeep-api` with this version. Orders may carry the header `idempotency-key`: the same order \
                    with the same key within ten minutes has one effect and gets the same answer.",
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "servers": [{ "url": "http://peerkeep", "description": "peerkeep.sock in the node's data folder" }],
            "paths": self.paths,
            "components": {
                "schemas": self.generator.take_definitions(true),
                "responses": { "Problem": {
                    "description": "It was refused, or failed.",
                    "content": { "application/json": { "schema": problem } },
                } },
            },
        });
        (self.router, document)
    }

    fn describe(&mut self, method: &str, path: &str, about: &About) {
        let mut parameters: Vec<Value> = segments(path)
            .map(|name| {
                let what = "A peer's id, the end of one, or an address it is known by.";
                json!({ "name": name, "in": "path", "required": true, "description": what, "schema": { "type": "string" } })
            })
            .collect();
        parameters.extend(about.query.iter().map(
            |(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } }),
        ));
        let mut schema = |make: Option<fn(&mut SchemaGenerator) -> Schema>| match make {
            Some(make) => make(&mut self.generator).to_value(),
            None => json!({}),
        };
        let mut operation = json!({
            "operationId": format!("{method}{}", path.replace(['/', '{', '}', '.'], "_")),
            "summary": about.summary,
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "Done.",
                    "content": { about.kind: { "schema": schema(about.gives) } },
                },
                "default": { "$ref": "#/components/responses/Problem" },
            },
        });
        if about.takes.is_some() {
            operation["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": schema(about.takes) } },
            });
        }
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        item[method] = operation;
    }
}

/// The names of a path's variable parts.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}
