use super::*;
use async_trait::async_trait;

/// A channel to an app that is not there.
struct Silent;

#[async_trait]
impl AppChannel for Silent {
    fn address(&self) -> &str {
        "nowhere"
    }

    async fn accepts(&self) -> bool {
        false
    }

    async fn deliver(&self, _: EventCall<'_>) -> Result<Outcome, CallError> {
        Err(CallError::Unreachable("nobody is there".into()))
    }

    async fn deliver_batch(&self, _: BatchCall<'_>) -> Result<Vec<Outcome>, CallError> {
        Err(CallError::Unreachable("nobody is there".into()))
    }

    async fn subscriptions(&self) -> Result<Option<DeclaredByApp>, CallError> {
        Ok(None)
    }

    async fn probe(&self) -> Result<(), CallError> {
        Ok(())
    }
}

/// An app that is not there.
pub(crate) fn silent_app() -> Arc<App> {
    let options =
        AppOptions { id: "app".into(), timeout: DEFAULT_TIMEOUT, max_calls: 3, check: None };
    Arc::new(App::new(options, Box::new(Silent)))
}
