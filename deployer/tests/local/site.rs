//! A store, a base folder and the real helper; an `artisan` that does what Laravel's does with
//! the paths it is given, and no more.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use relstore_deployer::environment::{Environment, HealthCheck, Host, Migrate};
use relstore_deployer::event::Event;
use relstore_deployer::outcome::Outcome;
use relstore_deployer::plan::Action;
use relstore_deployer::session::Connector;
use relstore_deployer::transport::{Caller, Endpoint, HelperBinary};
use relstore_deployer::{DeployError, Deployment, Secret, deploy, status};
use relstore_store::Store;
use relstore_store::id::ReleaseId;
use relstore_store::import::{Layout, ReleaseTree};
use relstore_store::name::EntryPath;
use relstore_store::structure::{Requirement, Shape};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ARTISAN: &str = r#"#!/usr/bin/env php
<?php
require __DIR__ . '/vendor/autoload.php';
if (is_file(__DIR__ . '/slow')) usleep(60000);
$command = $argv[1];
if ($command === '--version') { echo "Laravel Framework 8.83\n"; exit(0); }
$env = file_get_contents(__DIR__ . '/.env');
$write = fn ($path, $text) => file_put_contents($path, "<?php return " . var_export($text, true) . ";");
match ($command) {
    'view:cache' => $write(getenv('VIEW_COMPILED_PATH') . '/home.php', 'home'),
    'event:cache' => $write(getenv('APP_EVENTS_CACHE'), 'events'),
    'route:cache' => $write(getenv('APP_ROUTES_CACHE'), 'routes'),
    'config:cache' => $write(getenv('APP_CONFIG_CACHE'), $env),
    'migrate' => print("Nothing to migrate.\n"),
};
"#;

pub(crate) struct Site {
    folder: TempDir,
    pub(crate) environment: Environment,
    pub(crate) connector: Connector,
    pub(crate) store: Store,
    events: Mutex<Vec<Event>>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("site");
        fs::create_dir_all(base.join("shared")).unwrap();
        fs::write(base.join("shared/.env"), "APP_KEY=sentinel-5d1e\n").unwrap();
        let reload = [
            "sh",
            "-c",
            &format!("echo reloaded >> {}/reloads", folder.path().display()),
        ];
        let environment = Environment {
            name: "prod".into(),
            hosts: vec![Host {
                name: "local".into(),
                endpoint: Endpoint::Local,
            }],
            base: base.to_str().unwrap().into(),
            url: None,
            dotenv: "shared/.env".into(),
            web_group: None,
            php: "php".into(),
            reload: vec![reload.map(str::to_owned).to_vec()],
            migrate: Migrate::Run,
            keep: 3,
            health: vec![],
            health_attempts: 2,
            health_interval: Duration::from_millis(20),
            command_timeout: Duration::from_secs(60),
        };
        let connector = Connector {
            helper: HelperBinary::load(env!("CARGO_BIN_EXE_relstore-host")).unwrap(),
            caller: Caller::default(),
        };
        let store = Store::open_or_create(&folder.path().join("store"))
            .await
            .unwrap();
        Self {
            folder,
            environment,
            connector,
            store,
            events: Mutex::default(),
        }
    }

    /// A release whose `public/version` holds its name; `slow` has an artisan that takes its time.
    pub(crate) async fn release(&self, name: &str) -> ReleaseId {
        let root = self.folder.path().join(name);
        let write = |path: &str, content: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("artisan", ARTISAN);
        fs::set_permissions(root.join("artisan"), PermissionsExt::from_mode(0o755)).unwrap();
        write("vendor/autoload.php", "<?php\n");
        write("app/Empty.php", "");
        write("storage/logs/.gitignore", "*\n");
        for n in 0..20 {
            write(
                &format!("app/File{n}.php"),
                &format!("<?php return {n};\n").repeat(30),
            );
        }
        write("public/version", name);
        if name == "slow" {
            write("slow", "");
        }
        fs::create_dir_all(root.join("bootstrap/cache")).unwrap();
        let path = |text: &str| EntryPath::new(text).unwrap();
        let layout = Layout {
            shared_files: vec![path(".env")],
            shared_dirs: vec![path("storage")],
            writable_dirs: vec![path("bootstrap/cache")],
        };
        let imported = self
            .store
            .import(&ReleaseTree { root, layout }, &|_| ())
            .await
            .unwrap();
        self.store.publish(&imported.release).await.unwrap();
        imported.release
    }

    pub(crate) fn deployment(&self, release: ReleaseId, action: Action) -> Deployment<'_> {
        let requirement = |path| Requirement {
            path: EntryPath::new(path).unwrap(),
            shape: Shape::File,
        };
        Deployment {
            environment: &self.environment,
            release,
            store: &self.store,
            requirements: ["artisan", "vendor/autoload.php"].map(requirement).to_vec(),
            actor: "anna@laptop".into(),
            action,
            commit: None,
            started_ms: 1_700_000_000_000,
        }
    }

    pub(crate) async fn bring(
        &self,
        release: ReleaseId,
        action: Action,
    ) -> Result<Outcome, DeployError> {
        let listener = |event| self.events.lock().unwrap().push(event);
        deploy(
            &self.deployment(release, action),
            &self.connector,
            &listener,
        )
        .await
    }

    pub(crate) async fn deploy(&self, release: ReleaseId) -> Result<Outcome, DeployError> {
        self.bring(release, Action::Deploy).await
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn base(&self) -> &Path {
        Path::new(&self.environment.base)
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.base().join("current")
    }

    /// The name of the release that a web server would serve now.
    pub(crate) fn served(&self) -> String {
        fs::read_to_string(self.current().join("public/version")).unwrap()
    }

    pub(crate) fn reloads(&self) -> usize {
        fs::read_to_string(self.folder.path().join("reloads"))
            .map_or(0, |text| text.lines().count())
    }

    pub(crate) fn ledger_copies(&self) -> usize {
        fs::read_dir(
            self.folder
                .path()
                .join("store/environments/prod/ledger/local"),
        )
        .unwrap()
        .count()
    }

    /// All text of a file or folder of the helper.
    pub(crate) fn base_text(&self, name: &str) -> String {
        fn read(path: &Path) -> String {
            match fs::read_dir(path) {
                Ok(entries) => entries.map(|entry| read(&entry.unwrap().path())).collect(),
                Err(_) => fs::read_to_string(path).unwrap_or_default(),
            }
        }
        read(&self.base().join(".relstore").join(name))
    }

    /// Waits until the helper of a cancelled deploy has ended.
    pub(crate) async fn unlocked(&self) {
        for _ in 0..500 {
            let asked = status(&self.environment, &self.connector, &|_| ()).await;
            let state = &asked[0].answer.as_ref().unwrap().hello.state;
            if state.holder.is_none() && state.pending.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the base stays locked");
    }

    /// Ends the helper that holds the lock, as the kernel does when memory is short.
    pub(crate) fn kill_helper(&self) {
        // Empty for a moment between the lock and the name of its holder, and when nobody holds it.
        let holder = (0..50).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            serde_json::from_str::<serde_json::Value>(&self.base_text("lock")).ok()
        });
        let Some(holder) = holder else {
            return;
        };
        let pid = holder["pid"].to_string();
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        if !program.is_ok_and(|program| program.starts_with(self.base())) {
            return; // it has ended, and its number may be somebody else's
        }
        let mut kill = std::process::Command::new("kill");
        kill.args(["-KILL", &pid])
            .stderr(std::process::Stdio::null());
        let _ = kill.status().unwrap();
    }

    /// Starts a web server: 500 when `bad` is served.
    pub(crate) async fn serve_health(&mut self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.environment.health = vec![HealthCheck {
            url: format!("http://{}/up", listener.local_addr().unwrap()),
            bearer: Some(Secret::new("sentinel-token")),
        }];
        let current = self.current();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                let version = fs::read_to_string(current.join("public/version")).unwrap();
                let release = fs::read_link(&current).unwrap();
                let release = release.file_name().unwrap().to_str().unwrap();
                let status = if version == "bad" { 500 } else { 200 };
                let body = "sentinel-token";
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nx-release: {release}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}
