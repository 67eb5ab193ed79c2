//! Allocations that a request costs the thread that serves it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::pin::pin;

use components::stop::Stopper;
use http::{Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use runtime::cli::{self, Command};
use runtime::{settings, wiring};
use tokio::net::TcpListener;

use crate::Result;
use crate::clients::{Clients, MEASURED_CALLS};

/// Allocations of a publish to the whole program.
pub(crate) fn program() -> Result<f64> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("allocations-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let counted = program_in(&dir);
    std::fs::remove_dir_all(&dir)?;
    counted
}

fn program_in(dir: &Path) -> Result<f64> {
    let address = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let port = address.port().to_string();
    let dir = dir.to_string_lossy().into_owned();
    let line = ["pannier", "run", "--metrics-port", "0", "--dapr-http-port", &port];
    let line = line.map(str::to_owned).into_iter().chain(["--data-dir".to_owned(), dir]);
    let Command::Run(args) = cli::parse(line)?.command else {
        return Err("the command line is not the one of a run".into());
    };
    let (settings, _) = settings::read(&args);
    let stop = Stopper::default();
    let served = wiring::run(settings, stop.clone(), |_| ());
    per_call(address, async { Ok(served.await?) }, || {
        stop.request();
    })
}

/// Allocations of the same request to hyper, which answers 204 without a look at it.
pub(crate) fn bare() -> Result<f64> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let stop = Stopper::default();
    let stopped = stop.subscribe();
    let served = async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            tokio::select! {
                () = stopped.requested() => return Ok(()),
                accepted = listener.accept() => {
                    let service = service_fn(async |_| Ok::<_, Infallible>(no_content()));
                    let io = TokioIo::new(accepted?.0);
                    tokio::spawn(http1::Builder::new().serve_connection(io, service));
                }
            }
        }
    };
    per_call(address, served, || {
        stop.request();
    })
}

fn no_content() -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Serves on this thread until the clients are done; counts once they are warm.
fn per_call(
    address: SocketAddr,
    served: impl Future<Output = Result<()>>,
    stop: impl FnOnce(),
) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut served = pin!(served);
    let Clients { warm, done, thread } = Clients::start(address);
    let mut until = async |over: tokio::sync::oneshot::Receiver<()>| {
        tokio::select! {
            ended = served.as_mut() => ended.and(Err("the server has ended".into())),
            over = over => over.map_err(|_| "the clients have failed".into()),
        }
    };
    let mut result = runtime.block_on(until(warm));
    let counted = allocation_counter::measure(|| {
        if result.is_ok() {
            result = runtime.block_on(until(done));
        }
    });
    stop();
    result.and(runtime.block_on(served))?;
    thread.join().map_err(|_| "the clients have panicked")??;
    Ok(counted.count_total as f64 / MEASURED_CALLS as f64)
}
