//! What the application says about itself: the script, run by PHP in the real example application
//! and in copies that are broken in different ways.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use relstore_builder::facts::{self, AppFacts, Part};

/// The example application with its packages, in a folder of its own.
struct App {
    root: tempfile::TempDir,
}

impl App {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/app.sh");
        run(Command::new(script).arg(root.path().join("app")));
        let app = Self { root };
        run(Command::new("composer")
            .args(["install", "--no-dev", "--no-scripts", "--quiet"])
            .env("COMPOSER_HOME", app.root.path().join("home"))
            .env("COMPOSER_ALLOW_SUPERUSER", "1")
            .env("COMPOSER_DISABLE_NETWORK", "1")
            .current_dir(app.folder()));
        app
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("app")
    }

    /// Runs the script with nothing but its own environment, and puts back what it changed.
    fn facts(&self) -> AppFacts {
        let script = self.root.path().join("facts.php");
        std::fs::write(&script, facts::script()).unwrap();
        let temp = self.root.path().join("temp");
        std::fs::create_dir_all(&temp).unwrap();
        let output = Command::new("php")
            .arg(script)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TMPDIR", &temp)
            .envs(relstore_builder::preset::dummy_environment())
            .stdin(Stdio::null())
            .current_dir(self.folder())
            .output()
            .unwrap();
        assert_eq!(
            std::fs::read_dir(&temp).unwrap().count(),
            0,
            "temporary files"
        );
        facts::parse(&output.stdout).unwrap()
    }

    fn with(&self, path: &str, from: &str, to: &str) -> AppFacts {
        let file = self.folder().join(path);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{path}: {text}");
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let facts = self.facts();
        std::fs::write(&file, text).unwrap();
        facts
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn error<T: std::fmt::Debug>(part: &Part<T>) -> &str {
    match part {
        Part::Error(error) => error,
        Part::Value(value) => panic!("known: {value:?}"),
    }
}

// One test: the application takes seconds to be made.
#[test]
fn application_tells_about_itself_as_far_as_it_works() {
    let app = App::new();
    tells_its_routes_schedule_and_names(&app);
    part_that_fails_says_why_and_the_others_are_known(&app);
}

fn tells_its_routes_schedule_and_names(app: &App) {
    let files = || {
        let output = Command::new("git")
            .args(["status", "--porcelain", "--ignored"])
            .current_dir(app.folder())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let before = files();
    let facts = app.facts();
    assert!(facts.laravel.value().unwrap().starts_with("8."));
    let routes = facts.routes.value().unwrap();
    let light = routes
        .iter()
        .find(|route| route.uri == "api/health-check")
        .unwrap();
    assert_eq!(light.methods, ["GET", "HEAD"]);
    assert_eq!(light.name.as_deref(), Some("api.health-check"));
    assert_eq!(
        light.action,
        "App\\Http\\Controllers\\HealthController@light"
    );
    assert!(light.middleware.contains(&"health.token".to_owned()));
    let config = match &facts.config {
        Part::Value(config) => config,
        Part::Error(error) => panic!("{error}"),
    };
    for name in [
        "app.key",
        "database.connections.mysql.password",
        "app.providers",
    ] {
        assert!(config.iter().any(|known| known == name), "{name}");
    }
    let env = facts.env.value().unwrap();
    let key = |name: &str| env.iter().find(|key| key.name == name).unwrap();
    assert!(key("APP_KEY").example && key("APP_KEY").config && !key("APP_KEY").default);
    assert!(!key("CACHE_PREFIX").example && key("CACHE_PREFIX").default);
    assert_eq!(facts.schedule.value().unwrap(), &[]);
    assert_eq!(facts, app.facts(), "the same every time");
    assert_eq!(before, files(), "nothing is written into the folder");
    let text = serde_json::to_string(&facts).unwrap();
    assert!(!text.contains(app.root.path().to_str().unwrap()), "{text}");

    let kernel = "app/Console/Kernel.php";
    let scheduled = "protected function schedule($schedule) { \
        $schedule->command('queue:prune', ['--hours' => 1])->dailyAt('04:05')->onOneServer()->timezone('UTC'); \
        $schedule->call(function () {})->everyMinute()->description('beat'); }\n";
    let facts = app.with(
        kernel,
        "extends ConsoleKernel\n{",
        &format!("extends ConsoleKernel\n{{ {scheduled}"),
    );
    let schedule = facts.schedule.value().unwrap();
    assert_eq!(schedule[0].expression, "5 4 * * *");
    assert_eq!(
        schedule[0].command.as_deref(),
        Some("php artisan queue:prune --hours=1")
    );
    assert!(schedule[0].on_one_server);
    assert_eq!(schedule[0].timezone.as_deref(), Some("UTC"));
    assert_eq!(schedule[1].description.as_deref(), Some("beat"));
    assert_eq!(schedule[1].command, None);
}

fn part_that_fails_says_why_and_the_others_are_known(app: &App) {
    let web = "routes/web.php";
    let facts = app.with(
        web,
        "<?php",
        "<?php\necho 'noise'; fwrite(STDERR, 'noise'); trigger_error('old', E_USER_DEPRECATED);\n",
    );
    assert!(facts.routes.value().is_some());

    let facts = app.with(
        web,
        "<?php",
        "<?php\nthrow new RuntimeException('needs a database: ' . __FILE__);\n",
    );
    assert!(
        error(&facts.laravel).contains("needs a database: routes/web.php"),
        "{facts:?}"
    );
    assert!(error(&facts.routes).contains("does not boot"));
    assert!(facts.env.value().is_some());

    for end in [
        "exit(3);",
        "echo str_repeat('x', 100); die('gone');",
        "undefined_function_here();",
        "while (ob_get_level()) ob_end_flush(); ini_set('memory_limit', '2M'); str_repeat('x', 1 << 24);",
    ] {
        let facts = app.with(web, "<?php", &format!("<?php\n{end}\n"));
        assert!(!error(&facts.laravel).is_empty(), "{end}");
        assert!(
            !error(&facts.config).is_empty() && facts.env.value().is_some(),
            "{end}"
        );
    }

    let facts = app.with("app/Console/Kernel.php", "extends ConsoleKernel\n{", "extends ConsoleKernel\n{ protected function schedule($s) { throw new \\LogicException('no time'); }\n");
    assert!(error(&facts.schedule).contains("no time"), "{facts:?}");
    assert!(facts.routes.value().is_some() && facts.config.value().is_some());

    std::fs::remove_dir_all(app.folder().join("vendor")).unwrap();
    let facts = app.facts();
    assert!(
        error(&facts.laravel).contains("vendor/autoload.php"),
        "{facts:?}"
    );
}
