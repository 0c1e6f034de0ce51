//! Paths and the choice of a route, as the fuzz targets see them.

use super::routes::{self, Facts, Names};
use super::{path, request};
use crate::config::RouteConfig;
use hyper::{Request, Uri};

/// A path's normal form.
pub fn normal_path(path: &str) -> Option<String> {
    path::normal(path).ok().map(String::from)
}

/// One route that answers here what is under its path; everything else would be passed on.
pub struct Guarded(Vec<routes::Route>);

impl Guarded {
    /// Guards a path; `None` where a configuration could not name it.
    pub fn new(path: &str) -> Option<Self> {
        let respond = Some(crate::config::RouteRespondConfig { status: 403, body: String::new() });
        let route = RouteConfig { path: Some(path.into()), respond, ..RouteConfig::default() };
        let mut errors = Vec::new();
        let routes =
            routes::compile(&[route], &Names { upstream: &|name| Err(name.to_owned()), fronts: &[] }, &mut errors);
        errors.is_empty().then_some(Self(routes))
    }

    /// The path that an upstream is sent for a request; `None` where the request is answered here, refused or guarded.
    pub fn passes_on(&self, uri: &Uri) -> Option<String> {
        let (head, ()) = Request::builder().uri(uri.clone()).header("host", "a").body(()).ok()?.into_parts();
        let target = request::Target::of(&head).ok()?;
        let (host, path) = (target.host(), target.path(&head));
        match routes::choose(&self.0, || Facts { host, path, method: &head.method, fields: &head.headers }) {
            Ok(None) => Some(path.to_owned()),
            Ok(Some(_)) | Err(_) => None,
        }
    }
}
