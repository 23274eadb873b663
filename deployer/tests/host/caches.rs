//! Warm state, with a script in place of artisan that honours the same variables.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use relstore_deployer::protocol::{DriftKind, Message, Reason, Warm, Warmed};

use super::client::{Helper, Site};
use super::tree::Tree;

const ARTISAN: &str = r#"<?php
$views = getenv('VIEW_COMPILED_PATH');
file_put_contents(getenv('APP_PACKAGES_CACHE'), '<?php return [];');
file_put_contents(getenv('APP_SERVICES_CACHE'), '<?php return [];');
$env = file_get_contents('.env');
if (str_contains($env, 'BREAK='.$argv[1])) { echo "it broke\n"; exit(1); }
switch ($argv[1]) {
    case 'view:cache': file_put_contents("$views/page.php", 'compiled'); break;
    case 'route:cache': file_put_contents(getenv('APP_ROUTES_CACHE'), 'routes'); break;
    case 'event:cache': file_put_contents(getenv('APP_EVENTS_CACHE'), 'events'); break;
    case 'config:cache': file_put_contents(getenv('APP_CONFIG_CACHE'), "$views|".md5($env)); break;
}
"#;

fn laravel() -> Tree {
    let mut tree = Tree::site("one");
    tree.file("artisan", ARTISAN.as_bytes());
    tree
}

fn warm(tree: &Tree) -> Warm {
    Warm {
        release: tree.id(),
        php: "php".into(),
        timeout_ms: 20_000,
    }
}

fn warmed(helper: &mut Helper, tree: &Tree) -> Warmed {
    match helper.must(warm(tree)) {
        Message::Warmed(warmed) => warmed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn caches_are_made_once_per_release_dotenv_and_php() {
    let site = Site::new();
    let tree = laravel();
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    let first = warmed(&mut helper, &tree);
    assert!(
        !first.reused && first.files == 6 && first.php.starts_with("PHP "),
        "{first:?}"
    );
    let cache = site.release(tree.id()).join("bootstrap/cache");
    let config = fs::read_to_string(cache.join("config.php")).unwrap();
    // The place of the views is the one that stays.
    assert!(
        config.starts_with(&format!("{}|", cache.join("views").display())),
        "{config}"
    );
    for file in [
        "config.php",
        "routes-v7.php",
        "events.php",
        "packages.php",
        "views/page.php",
    ] {
        let mode = fs::metadata(cache.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "{file}");
    }
    assert!(!cache.join(".warm-new").exists());
    let again = warmed(&mut helper, &tree);
    assert!(again.reused && again.key == first.key, "{again:?}");

    fs::write(site.base.join("shared/.env"), "SECRET=new\n").unwrap();
    let edited = warmed(&mut helper, &tree);
    assert!(!edited.reused && edited.key != first.key, "{edited:?}");
    assert_ne!(
        fs::read_to_string(cache.join("config.php")).unwrap(),
        config
    );
    helper.finish();
    let hello = site.start();
    assert_eq!(hello.hello().state.warm_key.as_ref(), Some(&edited.key));
    hello.finish();
}

#[test]
fn a_changed_cache_is_drift_and_is_made_anew() {
    let site = Site::new();
    let tree = laravel();
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    warmed(&mut helper, &tree);
    let config = site.release(tree.id()).join("bootstrap/cache/config.php");
    fs::write(&config, "<?php evil();").unwrap();
    let drift = helper.verify(None).drift;
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert_eq!(
        (drift[0].path.as_str(), drift[0].kind),
        ("bootstrap/cache/config.php", DriftKind::Changed)
    );
    assert!(!warmed(&mut helper, &tree).reused);
    assert_eq!(helper.verify(None).drift, []);
    helper.finish();
}

#[test]
fn a_cache_that_cannot_be_made_leaves_those_that_serve() {
    let site = Site::new();
    let tree = laravel();
    site.deploy(&tree);
    let mut helper = site.start();
    helper.locked(tree.id());
    warmed(&mut helper, &tree);
    let config = site.release(tree.id()).join("bootstrap/cache/config.php");
    let before = fs::read(&config).unwrap();
    for step in ["view:cache", "route:cache", "config:cache"] {
        fs::write(site.base.join("shared/.env"), format!("BREAK={step}\n")).unwrap();
        let refused = helper.refused(warm(&tree));
        assert_eq!(refused.reason, Reason::Command);
        assert!(
            refused.message.contains(step) && refused.causes.concat().contains("it broke"),
            "{refused:?}"
        );
        assert_eq!(fs::read(&config).unwrap(), before);
    }
    let mut absent = warm(&tree);
    absent.php = "php-that-is-not-here".into();
    let refused = helper.refused(absent);
    assert_eq!(refused.reason, Reason::Command);
    assert!(
        refused.message.contains("php-that-is-not-here"),
        "{refused:?}"
    );
    helper.finish();
}
