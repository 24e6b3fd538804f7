//! Turns build ids into debug files, from a cache and from debuginfod servers. Asks nobody unless the
//! user has said so, and takes nothing for an object's that is of another build.

mod cache;
mod errand;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::{Cache, Cached};
pub use errand::Errands;

/// Where servers are named when the option names none.
const SERVERS: &str = "DEBUGINFOD_URLS";
/// Seconds that a server may take to begin its answer.
const TIMEOUT: &str = "DEBUGINFOD_TIMEOUT";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);
/// Largest file that is taken, bytes.
const MAX_SIZE: &str = "DEBUGINFOD_MAXSIZE";
const DEFAULT_MAX_BYTES: u64 = 4 << 30;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For all of a file, once it has begun to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(1800);

/// Servers and a cache.
#[derive(Debug)]
pub struct Debuginfod {
    servers: Vec<Server>,
    cache: Cache,
    agent: ureq::Agent,
    max_bytes: u64,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// It has failed once, which the user was told.
    failed: AtomicBool,
}

/// Why no server can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    /// None is named anywhere.
    #[error(
        "--debuginfod knows no server; name one (--debuginfod=https://SERVER), or set \
         {SERVERS} (and keep it through sudo: sudo -E)"
    )]
    NotNamed,
    /// A name is none of a server.
    #[error(
        "--debuginfod: {0:?} is no address of a server; it has to begin with https:// or http://"
    )]
    NoAddress(String),
}

impl Debuginfod {
    /// The servers that are named here, with blanks or commas between them, or in `DEBUGINFOD_URLS` when
    /// none is.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn new(named: &str) -> Result<Self, NoServer> {
        let from_environment = std::env::var(SERVERS).unwrap_or_default();
        let named = match named.trim() {
            "" => from_environment.as_str(),
            named => named,
        };
        let timeout = number_in(TIMEOUT).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .timeout_recv_response(Some(timeout.min(LONGEST_TIMEOUT)))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("leaktrace/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            servers: servers(named)?,
            cache: Cache::of_environment(),
            agent: config.into(),
            max_bytes: number_in(MAX_SIZE).unwrap_or(DEFAULT_MAX_BYTES),
        })
    }

    /// The debug file of this build, if the cache has it. Asks no server.
    pub fn cached(&self, build_id: &str) -> Option<File> {
        match self.cache.find(build_id) {
            Cached::File(file) => Some(file),
            Cached::Nothing | Cached::NotThere => None,
        }
    }

    /// The debug file of this build; `None` when no server has it or can be asked. Takes as long as
    /// the servers take.
    pub fn fetch(&self, build_id: &str) -> Option<File> {
        match self.cache.find(build_id) {
            Cached::File(file) => return Some(file),
            // Asked for a moment ago.
            Cached::NotThere => return None,
            Cached::Nothing => {}
        }
        let mut all_say_no = true;
        for server in &self.servers {
            match self.ask(server, build_id) {
                Ok(Some(file)) => return Some(file),
                Ok(None) => {}
                Err(reason) => {
                    all_say_no = false;
                    server.tell(&reason);
                }
            }
        }
        if all_say_no {
            self.cache.note_missing(build_id);
        }
        None
    }

    fn ask(&self, server: &Server, build_id: &str) -> Result<Option<File>, String> {
        let url = format!("{}/buildid/{build_id}/debuginfo", server.url);
        log::info!("asking {url}");
        let said = self.agent.get(&url).call();
        let mut response = said.map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(format!("it answers with status {status}")),
        }
        let body = response.body_mut().as_reader().take(self.max_bytes + 1);
        let file = self.cache.store(build_id, body, self.max_bytes)?;
        Ok(Some(file))
    }
}

impl Server {
    /// Once as a warning: a server that cannot be reached is not to be told of for each object.
    fn tell(&self, reason: &str) {
        match self.failed.swap(true, Ordering::Relaxed) {
            false => log::warn!("no debug file from {}: {reason}", self.url),
            true => log::info!("no debug file from {}: {reason}", self.url),
        }
    }
}

fn servers(named: &str) -> Result<Vec<Server>, NoServer> {
    let words = named.split([' ', ',', '\t', '\n']);
    let servers: Vec<Server> = words
        .filter(|word| !word.is_empty())
        .map(
            |word| match word.starts_with("https://") || word.starts_with("http://") {
                true => Ok(Server {
                    url: word.trim_end_matches('/').to_owned(),
                    failed: AtomicBool::new(false),
                }),
                false => Err(NoServer::NoAddress(word.to_owned())),
            },
        )
        .collect::<Result<_, _>>()?;
    match servers.is_empty() {
        true => Err(NoServer::NotNamed),
        false => Ok(servers),
    }
}

/// A positive number in a variable of the environment.
fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    text.trim().parse().ok().filter(|number| *number > 0)
}

/// Whether this is a build id and not a path.
fn is_build_id(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The build id that a file states.
fn build_id_of(file: &File, path: &Path) -> Option<String> {
    let id = crate::target::FileId {
        device: 0,
        inode: 0,
    };
    let file = file.try_clone().ok()?;
    crate::target::Object::of_file(file, path, id).build_id()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn servers_stand_between_blanks_or_commas() {
        let urls = |named: &str| -> Result<Vec<String>, NoServer> {
            Ok(servers(named)?
                .into_iter()
                .map(|server| server.url)
                .collect())
        };
        assert_eq!(
            urls("https://a/  http://b:8002/x/").unwrap(),
            ["https://a", "http://b:8002/x"]
        );
        assert_eq!(urls("https://a,https://b").unwrap().len(), 2);
        assert_eq!(urls("  "), Err(NoServer::NotNamed));
        assert_eq!(
            urls("https://a ftp://b"),
            Err(NoServer::NoAddress("ftp://b".to_owned()))
        );
    }

    #[test]
    fn a_build_id_never_leads_anywhere() {
        assert!(is_build_id("00ab12EF"));
        for text in ["", "ab", "../../etc", "abcd/", "abcg"] {
            assert!(!is_build_id(text), "{text}");
        }
    }
}
