//! The admin listener: health, metrics and state, on an address of its own, since on the data
//! listener every path belongs to the upstream. What it says is derived from the state when it is
//! asked, and holds no secret.

mod chart;
mod guard;
mod page;
mod recent;
mod reloads;
mod state;
mod status;
mod trouble;
pub(crate) mod words;

use std::{
    convert::Infallible, future::ready as ready_with, pin::pin, sync::Arc, time::SystemTime,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn as hyper_service};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::set_header::SetResponseHeaderLayer;

pub use self::{guard::Guard, recent::Recent, reloads::Reloads};
pub(crate) use self::{state::State, status::Status, trouble::Trouble};
use crate::{
    admission::{Rules, admit},
    client_token::ClientName,
    health::Health,
    message::{RequestHead, RequestId},
    proxy::{Ledger, ProxyError},
    server::{Connections, Peer, Protocol, Refusal, Seat, ServerSettings, Shutdown, Stream},
    telemetry::{
        Metrics, Origin, Sources,
        access::{Access, AccessLog, Asked, Record},
    },
    token::{TokenHandle, foresight::Ends},
};

/// The admin listener's responses; what they are about can be exchanged.
#[derive(Debug, Clone)]
pub struct Admin(Arc<ArcSwap<View>>);

/// What the admin listener looks at and acts on.
#[derive(Debug)]
pub struct View {
    /// The token path.
    pub tokens: TokenHandle,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The requests in flight.
    pub ledger: Ledger,
    /// The connections of the data listener.
    pub connections: Connections,
    /// What is known of the upstream and of the token.
    pub health: Health,
    /// When the credentials end.
    pub ends: Ends,
    /// The last minutes.
    pub recent: Recent,
    /// What became of the last change of the configuration.
    pub reloads: Reloads,
    /// The host and port of the token service, where there is one.
    pub token_service: Option<String>,
    /// The service behind us, as people name it.
    pub upstream: String,
    /// Where clients connect, as people name it.
    pub listeners: Vec<String>,
    /// The hosts and origins that are served.
    pub rules: Rules,
    /// Who may have it act, and see more than metrics and health.
    pub guard: Guard,
    /// To be set when the program is to end.
    pub stop: CancellationToken,
    /// Set when the program is asked to stop: from then on it is not ready.
    pub stopping: CancellationToken,
    /// Whether `POST /quitquitquit` stops the program.
    pub allow_quit: bool,
    /// When the program started.
    pub started_at: Instant,
    /// The same by the wall clock.
    pub started_at_date: SystemTime,
    /// The logs that may lose lines.
    pub access_log: AccessLog,
    /// Where refusals of this listener are logged.
    pub access: Access,
}

type AdminResponse = Response<Full<Bytes>>;

impl Admin {
    /// Looks at this.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(view)))
    }

    /// Looks at this from now on.
    pub fn set(&self, view: View) {
        self.0.store(Arc::new(view));
    }

    fn response(&self, request: &Parts, peer: &Peer) -> AdminResponse {
        let view = self.0.load();
        let head = RequestHead::of_parts(request);
        let id = RequestId::of(&head.fields);
        let Decided {
            response,
            error,
            is_order,
            client,
        } = decide(&view, request, &head, peer, id);
        if view.access.wants(error.is_some()) && (is_order || error.is_some()) {
            let target = request.uri.path_and_query();
            let asked = Asked {
                method: request.method.as_str(),
                target: target.map_or("", |target| target.as_str()).as_bytes(),
                version: match request.version {
                    Version::HTTP_10 => "1.0",
                    _ => "1.1",
                },
            };
            let who = (client.as_ref(), peer);
            log(&view, id, who, Some(asked), &response, error);
        }
        response
    }
}

/// What becomes of a request.
struct Decided {
    response: AdminResponse,
    /// Why it was refused, if it was: the type of RFC 9209, and our word for it.
    error: Option<(&'static str, &'static str)>,
    /// Whether it asks for something to be done.
    is_order: bool,
    /// Whose local token it showed.
    client: Option<ClientName>,
}

fn decide(view: &View, request: &Parts, head: &RequestHead, peer: &Peer, id: RequestId) -> Decided {
    let refused = |response, error| Decided {
        response,
        error: Some(error),
        is_order: false,
        client: None,
    };
    if let Err(denied) = admit(head, peer, &view.rules) {
        let error = ProxyError::from(denied);
        let mut response = error.response(id).map(Full::from);
        close_behind(&mut response);
        return refused(response, (error.row().error, error.label()));
    }
    let path = request.uri.path();
    let Some(route) = ROUTES.iter().find(|route| route.paths.contains(&path)) else {
        let response = text(
            StatusCode::NOT_FOUND,
            "There is nothing here. See / for people, /status for programs.\n",
        );
        return refused(response, ("", "not_found"));
    };
    if !route.is_asked_by(&request.method) {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "Another method is needed.\n",
        );
        let allow = if route.acts { "POST" } else { "GET, HEAD" };
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allow));
        return refused(response, ("", "method"));
    }
    if !route.for_all
        && let Some(response) = view.guard.refuses_place()
    {
        return refused(response, ("", "remote"));
    }
    let mut client = None;
    if route.acts {
        if !is_deliberate(&request.headers) {
            let response = text(
                StatusCode::FORBIDDEN,
                "A web page could have sent this. Send it without Origin, Sec-Fetch-Site and the\n\
                 Content-Type of a form, as curl -X POST does.\n",
            );
            return refused(response, ("", "cross_site"));
        }
        match view.guard.admit_order(head, peer) {
            Ok(name) => client = name,
            Err(why) => return refused(guard::refusal(why), ("", "order")),
        }
    }
    let response = (route.response)(view);
    // An order that is not carried out: it is off, or too early.
    let is_refused = response.status().is_client_error();
    Decided {
        response,
        error: is_refused.then_some(("", "order")),
        is_order: route.acts,
        client,
    }
}

/// Logs what somebody wanted of the admin listener.
fn log(
    view: &View,
    id: RequestId,
    (client, peer): (Option<&ClientName>, &Peer),
    asked: Option<Asked<'_>>,
    response: &AdminResponse,
    error: Option<(&'static str, &'static str)>,
) {
    view.access.write(&Record {
        is_admin: true,
        asked,
        status: Some(response.status().as_u16()),
        origin: Some(Origin::Sidecar.as_str()),
        error,
        response_bytes: response.body().size_hint().exact().unwrap_or_default(),
        ..Record::of(id, client, peer)
    });
}

/// Whether a request that acts is none that a browser sends, whatever page it shows: browsers name
/// the origin of a POST, and without being asked first they send no type but those of forms. The
/// page of this listener has no buttons.
fn is_deliberate(headers: &HeaderMap) -> bool {
    // Not Sec-Fetch-Mode: programs send that too, those on Node.js.
    const OF_BROWSERS: [&str; 2] = ["origin", "sec-fetch-site"];
    const OF_FORMS: [&str; 3] = [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
    ];
    let is_of_form = |kind: &HeaderValue| {
        // One that cannot be read is nobody's honest mistake.
        let kind = kind.to_str().unwrap_or("text/plain");
        let kind = kind.split(';').next().unwrap_or_default().trim();
        OF_FORMS.iter().any(|form| kind.eq_ignore_ascii_case(form))
    };
    !OF_BROWSERS.iter().any(|name| headers.contains_key(*name))
        && !headers.get_all(CONTENT_TYPE).iter().any(is_of_form)
}

struct Route {
    /// The path, and the names that users of neighbours expect for it.
    paths: &'static [&'static str],
    /// Whether it does something, and so needs POST.
    acts: bool,
    /// Whether it is for other machines too: metrics and health.
    for_all: bool,
    response: fn(&View) -> AdminResponse,
}

impl Route {
    /// Whether it responds to this method.
    fn is_asked_by(&self, method: &Method) -> bool {
        match *method {
            Method::POST => self.acts,
            Method::GET | Method::HEAD => !self.acts,
            _ => false,
        }
    }
}

const ROUTES: [Route; 8] = [
    Route {
        paths: &["/"],
        acts: false,
        for_all: false,
        response: page::response,
    },
    Route {
        paths: &["/livez", "/healthz", "/liveness"],
        acts: false,
        for_all: true,
        response: |_| text(StatusCode::OK, "alive\n"),
    },
    Route {
        paths: &["/readyz", "/readiness"],
        acts: false,
        for_all: true,
        response: ready,
    },
    Route {
        paths: &["/startupz", "/startup"],
        acts: false,
        for_all: true,
        response: started,
    },
    Route {
        paths: &["/metrics"],
        acts: false,
        for_all: true,
        response: metrics,
    },
    Route {
        paths: &["/status"],
        acts: false,
        for_all: false,
        response: status::response,
    },
    Route {
        paths: &["/refresh"],
        acts: true,
        for_all: false,
        response: refresh,
    },
    Route {
        paths: &["/quitquitquit"],
        acts: true,
        for_all: false,
        response: quit,
    },
];

fn ready(view: &View) -> AdminResponse {
    if view.stopping.is_cancelled() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let snapshot = view.tokens.snapshot();
    if snapshot.usable(Instant::now()).is_some() {
        return text(StatusCode::OK, "ready\n");
    }
    let why = match &snapshot.failure {
        Some(failure) => format!("no usable token: {failure}\n"),
        None => "no usable token: the first one is being fetched\n".to_owned(),
    };
    text(StatusCode::SERVICE_UNAVAILABLE, &why)
}

fn started(view: &View) -> AdminResponse {
    if view.tokens.snapshot().token.is_some() {
        text(StatusCode::OK, "started\n")
    } else {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "no token was obtained yet\n",
        )
    }
}

fn metrics(view: &View) -> AdminResponse {
    let sources = sources(view);
    let Ok(body) = view.metrics.encode(sources) else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written\n",
        );
    };
    response(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        body,
    )
}

fn sources(view: &View) -> Sources {
    let snapshot = view.tokens.snapshot();
    let clock = status::Clock::now();
    let token = snapshot.token.as_ref();
    let upstream = view.health.upstream();
    let is_known = upstream.last_success.is_some() || upstream.is_failing();
    Sources {
        upstream_up: is_known.then(|| !upstream.is_failing()),
        upstream_last_success: upstream.last_success.map(|at| clock.unix_seconds(at)),
        token_refused: view.health.acceptance().is_failing(),
        access_lines_dropped: view.access_log.dropped(),
        process_started_at: Some(view.started_at_date),
        token_usable: snapshot.usable(clock.now).is_some(),
        token_expiry: token
            .and_then(|token| token.expires_at)
            .map(|at| clock.unix_seconds(at)),
        token_issued: token.map(|token| clock.unix_seconds(token.requested_at)),
        consecutive_failures: snapshot.consecutive_failures,
        in_flight: view.ledger.in_flight(),
        troubles: troubles_since(&status::status(view).troubles, clock),
        connections: view.connections.count(),
        credential_ends: view
            .ends
            .known()
            .into_iter()
            .map(|end| (end.kind, status::unix_seconds(end.at)))
            .collect(),
    }
}

/// Since when there is trouble of each kind, in seconds since 1970; 0 where there is none.
fn troubles_since(troubles: &[Trouble], clock: status::Clock) -> Vec<(&'static str, f64)> {
    let now = status::unix_seconds(clock.wall);
    let since = |kind| {
        let of_kind = troubles.iter().filter(|trouble| trouble.kind == kind);
        let longest = of_kind
            .map(|trouble| trouble.since.seconds_ago)
            .reduce(f64::max);
        // A moment without trouble is none, even where trouble has begun in 1970.
        longest.map_or(0.0, |ago| (now - ago).max(1.0))
    };
    trouble::KINDS.map(|kind| (kind, since(kind))).to_vec()
}

fn refresh(view: &View) -> AdminResponse {
    let Err(unavailable) = view.tokens.order_refresh() else {
        return text(
            StatusCode::ACCEPTED,
            "a renewal is on its way; see /status\n",
        );
    };
    let seconds = unavailable.retry_after.as_secs() + 1;
    let mut later = text(
        StatusCode::TOO_MANY_REQUESTS,
        &format!(
            "The token service has rejected the last attempt, and is not asked again before {seconds} s\n\
             have passed; a changed credential is tried at once. See /status.\n"
        ),
    );
    later
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    later
}

fn quit(view: &View) -> AdminResponse {
    if !view.allow_quit {
        return text(
            StatusCode::FORBIDDEN,
            "this is off; set admin.allow_quit = true\n",
        );
    }
    tracing::info!("asked to stop by the admin listener");
    view.stop.cancel();
    text(StatusCode::OK, "stopping\n")
}

fn text(status: StatusCode, body: &str) -> AdminResponse {
    response(status, "text/plain; charset=utf-8", body.to_owned())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> AdminResponse {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Says that a response is the last one of its connection.
fn close_behind(response: &mut AdminResponse) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

impl Admin {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> AdminResponse {
        let admin = self.clone();
        let has_body = !request.body().is_end_stream();
        let routes = service_fn(move |request: Request<Incoming>| {
            ready_with(Ok::<_, Infallible>(
                admin.response(&request.into_parts().0, &peer),
            ))
        });
        let field = SetResponseHeaderLayer::if_not_present;
        let stack = ServiceBuilder::new()
            .layer(field(CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .layer(field(
                X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ))
            .service(routes);
        let Ok(mut response) = stack.oneshot(request).await;
        if has_body {
            // Nothing here reads one, so what is left of it is no next request.
            close_behind(&mut response);
        }
        response
    }
}

/// Served by hyper: nothing here is forwarded, so what two parties could read in two ways is read
/// by one alone.
impl Protocol for Admin {
    async fn serve(
        self,
        stream: Stream,
        peer: Peer,
        settings: Arc<ServerSettings>,
        shutdown: Shutdown,
        _seat: Seat,
    ) {
        let requests = hyper_service(|request| {
            let (admin, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(admin.handle(request, peer).await) }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // Also the longest time without a request.
                .header_read_timeout(settings.header_read_timeout)
                .max_buf_size(settings.max_header_size)
                .serve_connection(TokioIo::new(stream), requests)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.begun() => {
                connection.as_mut().graceful_shutdown();
                timeout(settings.drain_timeout, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the admin listener ended early");
        }
    }

    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        let (view, id) = (self.0.load(), RequestId::random());
        let error = ProxyError::from(refusal);
        let response = error.response(id);
        if view.access.wants(true) {
            let logged = response.clone().map(Full::from);
            let error = (error.row().error, error.label());
            let who = (None, peer);
            log(&view, id, who, None, &logged, Some(error));
        }
        response
    }
}
