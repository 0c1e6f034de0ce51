//! The `echo` handler: sends back every byte it gets, until the client ends.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::{Connection, Handler, Instance, ServeError, Serving, Settings, Side, StartError, settings_are_unused};
use crate::access_log::{Entry, Facts};
use crate::identity::Endpoint;
use crate::metrics::RequestFailure;
use crate::trail::Trail;

/// How much is read at once.
const BUFFER: usize = 16 * 1024;

/// Sends back every byte it gets. Takes no settings.
#[derive(Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    fn start(&self, endpoint: &Arc<Endpoint>, settings: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        settings_are_unused("echo", endpoint, settings);
        Ok(Arc::new(EchoInstance))
    }
}

struct EchoInstance;

impl Instance for EchoInstance {
    fn serve(self: Arc<Self>, mut connection: Connection) -> Serving {
        Box::pin(async move {
            let start = Instant::now();
            let mut echoed = 0;
            let result = echo(&mut connection, &mut echoed).await;
            let (facts, trail) = (Facts::default(), Trail::default());
            let entry = Entry::session(&connection.info, &facts, start, &trail);
            connection.context.session_ended(Entry { received: echoed, sent: echoed, ..entry }, &result);
            result
        })
    }
}

async fn echo(connection: &mut Connection, echoed: &mut u64) -> Result<(), ServeError> {
    let timeouts = connection.context.timeouts;
    let client = |what: &str| ServeError::new(Side::Client, what);
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let read = tokio::select! {
            read = timeout(timeouts.idle, connection.stream.read_buf(&mut buffer)) => read,
            () = connection.drain.begun() => break,
        };
        match read {
            Err(_) => return Err(client("idle").called(RequestFailure::IdleTimeout)),
            Ok(Err(e)) => return Err(ServeError::new(Side::Client, e)),
            Ok(Ok(0)) => break,
            Ok(Ok(_)) => {}
        }
        let written = timeout(timeouts.body, async {
            connection.stream.write_all(&buffer).await?;
            connection.stream.flush().await
        });
        match written.await {
            Err(_) => return Err(client("the client does not read")),
            Ok(result) => result.map_err(|e| ServeError::new(Side::Client, e))?,
        }
        *echoed += buffer.len() as u64;
    }
    // The last words; whether they arrive is the client's affair.
    let _ = timeout(timeouts.body, connection.stream.shutdown()).await;
    Ok(())
}
