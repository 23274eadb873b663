//! Tests of the whole way from text to configuration.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

const FILE: &str = "/project/relstore.toml";

fn parse(text: &str) -> Result<Config, ConfigError> {
    let variables = Variables::from_iter([
        ("HOME", "/home/ann"),
        ("STAGE", "beta"),
        ("PASSWORD", "s3ntinel!"),
    ]);
    Config::parse(Path::new(FILE), text, &variables)
}

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Problems { problems, .. }) => {
            problems.iter().map(ToString::to_string).collect()
        }
        other => panic!("expected problems, got {other:?}"),
    }
}

fn unusable(text: &str, name: &str) -> Vec<String> {
    match parse(text).unwrap().environment(name) {
        Err(ConfigError::Unusable { problems, .. }) => {
            problems.iter().map(ToString::to_string).collect()
        }
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn everything_but_the_app_has_a_default() {
    let config = parse("app = \"shop\"\n").unwrap();
    assert_eq!(config.build.steps, [Preset::Composer, Preset::Vite]);
    let layout = &config.layout;
    assert_eq!(format!("{:?}", layout.shared_files), "[EntryPath(.env)]");
    assert_eq!(format!("{:?}", layout.shared_dirs), "[EntryPath(storage)]");
    assert_eq!(
        format!("{:?}", layout.writable_dirs),
        "[EntryPath(bootstrap/cache)]"
    );
    assert_eq!(
        config.store.path.as_deref(),
        Some(Path::new("/home/ann/.local/share/relstore/shop"))
    );
    assert_eq!(config.project(), Path::new("/project"));
    assert_eq!(
        (config.app.as_str(), &config.signing),
        ("shop", &Signing::default())
    );
    assert_eq!(
        problems("[build]\n"),
        ["app: is missing, it names the application"]
    );
}

#[test]
fn paths_of_keys_are_relative_to_the_file_or_the_home_folder() {
    let config = parse(
        "app = \"shop\"\n[signing]\nkey = \"~/.ssh/ci.pub\"\nallowed_signers = \"signers\"\n",
    );
    let signing = config.unwrap().signing;
    assert_eq!(
        signing.key.as_deref(),
        Some(Path::new("/home/ann/.ssh/ci.pub"))
    );
    let signers = signing.allowed_signers;
    assert_eq!(signers.as_deref(), Some(Path::new("/project/signers")));
}

#[test]
fn environment_has_defaults_and_inherits() {
    let config = parse(
        "app = \"shop\"\n[env.staging]\nhosts = [\"deploy@a:2222\"]\nbase = \"/srv/${STAGE}\"\nurl = \"https://a.example\"\nkeep = 3\n\
         health = [{ path = \"/up\", bearer = { env = \"TOKEN\" } }, { path = \"/x\", bearer = { file = \"~/token\" } }]\n\
         [env.prod]\nextends = \"staging\"\nbase = \"/srv/shop\"\n[env.here]\ntransport = \"local\"\nbase = \"/tmp/x\"\n",
    )
    .unwrap();
    let staging = config.environment("staging").unwrap();
    assert_eq!(
        (staging.base.as_str(), staging.keep, staging.transport),
        ("/srv/beta", 3, Transport::Ssh)
    );
    assert_eq!(
        (
            staging.dotenv.as_str(),
            staging.web_group.as_str(),
            staging.php.as_str()
        ),
        ("shared/.env", "www-data", "php")
    );
    assert_eq!(
        (staging.health_attempts, staging.health_interval),
        (6, Duration::from_secs(5))
    );
    assert_eq!(
        staging.health[1].bearer,
        Some(SecretRef::File(PathBuf::from("/home/ann/token")))
    );
    let prod = config.environment("prod").unwrap();
    assert_eq!((prod.base.as_str(), prod.keep), ("/srv/shop", 3));
    assert_eq!(prod.health, staging.health);
    assert!(config.environment("here").unwrap().hosts.is_empty());
    match config.environment("prdo") {
        Err(ConfigError::NoEnvironment { nearest, .. }) => {
            assert_eq!(nearest.as_deref(), Some("prod"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_values_of_all_sections_are_reported_together_in_file_order() {
    assert_eq!(
        problems(
            "app = \"a/b\"\n[shared]\npaths = [\"storage\", \"../x\"]\n[env.prod]\nhosts = [\"-oX\", \"a\", \"a\"]\n\
             base = \"srv\"\nurl = \"a.example\"\nkeep = 0\ntimeout = \"5\"\nmigrate = \"yes\"\nunknwon = 1\n"
        ),
        [
            "1:7: app: \"a/b\" must begin with a letter or digit and hold only A-Z a-z 0-9 . _ -, at most 64",
            "3:21: shared.paths[1]: \"../x\" must not hold empty names, `.` or `..`",
            "5:9: env.prod.hosts: names a host twice",
            "5:10: env.prod.hosts[0]: \"-oX\" has a host name that begins with `-`",
            "6:8: env.prod.base: \"srv\" must be an absolute path",
            "7:7: env.prod.url: \"a.example\" must begin with https:// or http://",
            "8:8: env.prod.keep: must be a number from 1 to 1000",
            "9:11: env.prod.timeout: \"5\" must be a time like 500ms, 5s, 10m or 1h",
            "10:11: env.prod.migrate: \"yes\" must be \"run\" or \"off\"",
            "11:1: env.prod.unknwon: unknown key, known here: extends, transport, hosts, base, url, dotenv, web_group, php, \
             reload, migrate, keep, timeout, identity_file, known_hosts, health, health_attempts, health_interval",
        ]
    );
}

#[test]
fn required_keys_of_an_environment_are_asked_for_at_its_section() {
    assert_eq!(
        problems("app = \"a\"\n[env.prod]\nhealth = [{ path = \"/\" }]\n"),
        [
            "2:6: env.prod.hosts: is missing or empty, write hosts = [\"user@host\"]",
            "2:6: env.prod.base: is missing, it is the folder on the host",
            "2:6: env.prod.url: is missing, health requests need it",
        ]
    );
}

#[test]
fn parent_that_is_only_a_template_may_be_incomplete_until_it_is_used() {
    let text = "app = \"a\"\n[env.common]\nkeep = 2\n[env.prod]\nextends = \"common\"\nhosts = [\"a\"]\nbase = \"/srv/a\"\n";
    assert_eq!(parse(text).unwrap().environment("prod").unwrap().keep, 2);
    assert_eq!(unusable(text, "common").len(), 2);
}

#[test]
fn circles_and_unknown_parents_are_problems() {
    let circle = problems("app = \"a\"\n[env.a]\nextends = \"b\"\n[env.b]\nextends = \"a\"\n");
    assert!(circle[0].contains("circle"), "{circle:?}");
    let unknown = problems(
        "app = \"a\"\n[env.staging]\nextends = \"prod\"\n[env.prodd]\nhosts = [\"a\"]\nbase = \"/b\"\n",
    );
    assert_eq!(
        unknown,
        ["3:11: env.staging.extends: there is no [env.prod], did you mean `prodd`?"]
    );
}

#[test]
fn unset_variable_hurts_only_the_environment_that_is_used() {
    let text = "app = \"a\"\n[env.prod]\nhosts = [\"${PROD_HOST}\"]\nbase = \"/srv/a\"\n[env.beta]\nhosts = [\"b\"]\nbase = \"/srv/a\"\n";
    assert!(parse(text).unwrap().environment("beta").is_ok());
    assert_eq!(
        unusable(text, "prod"),
        ["3:10: env.prod.hosts[0]: the environment variable PROD_HOST is not set"]
    );
    let general = problems("app = \"${NO}\"\n[build]\nenv = { A = \"${NO}\" }\n");
    assert_eq!(
        general,
        [
            "1:7: app: the environment variable NO is not set",
            "3:13: build.env.A: the environment variable NO is not set"
        ]
    );
}

#[test]
fn value_of_a_variable_is_never_in_a_problem() {
    let found = problems(
        "app = \"a\"\n[env.p]\nhosts = [\"${PASSWORD}@h\"]\nbase = \"${PASSWORD}\"\nurl = \"https://u:${PASSWORD}@a\"\n",
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(!found.join("\n").contains("s3ntinel"), "{found:?}");
}

#[test]
fn documentation_names_exactly_the_known_keys_and_its_example_is_valid() {
    let text = include_str!("../../docs/config.md");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: Vec<&str> = rows.map(|(key, _)| key).collect();
    let sections = [
        "build", "gates", "checks", "shared", "writable", "store", "signing", "env",
    ];
    let mut known = Vec::new();
    for (section, keys) in raw::KEYS {
        for key in *keys {
            match *section {
                "" if sections.contains(key) => {}
                "" => known.push((*key).to_owned()),
                section => known.push(format!("{section}.{key}")),
            }
        }
    }
    assert_eq!(documented, known);
    let blocks = text.split("```toml\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    let example = blocks.filter(|block| block.contains("[env.prod]")).last();
    let example = example.unwrap();
    let config = parse(example).unwrap();
    assert_eq!(config.environment("prod").unwrap().health.len(), 2);
}

#[test]
fn unknown_steps_and_gates_name_the_nearest() {
    assert_eq!(
        problems(
            "app = \"a\"\n[build]\nsteps = [\"compser\"]\n[gates]\noff = [\"vite\", \"vite-manifst\"]\n"
        ),
        [
            "3:10: build.steps[0]: \"compser\" is no step, did you mean `composer`?",
            "5:8: gates.off[0]: \"vite\" is no gate, the gates are: artisan, composer-json, public-index, vite-manifest, \
             autoload, bootstrap, config, routes, app, secrets, case-collisions, assets, class-map, php-syntax, \
             migration-names, destructive-migrations, env-outside-config",
            "5:16: gates.off[1]: \"vite-manifst\" is no gate, did you mean `vite-manifest`?",
        ]
    );
}

proptest::proptest! {
    #[test]
    fn reading_anything_never_panics(text in "(app|build|env|steps|\\[|\\]|\\{|\\}|=|\"|\\$\\{|[.,# \n\\\\a-zä0-9'-]){0,60}") {
        drop(parse(&text));
    }

    #[test]
    fn any_text_may_stand_in_any_value(value in "\\PC{0,30}") {
        let value = toml_edit::Value::from(value);
        let keys = ["base", "url", "dotenv", "web_group", "php", "keep", "timeout", "identity_file", "transport", "extends", "migrate"];
        let mut text = format!("app = {value}\n[build]\nenv = {{ A = {value} }}\nexclude = [{value}]\n[env.p]\nhosts = [{value}]\nreload = [{value}]\n");
        for key in keys {
            text.push_str(&format!("{key} = {value}\n"));
        }
        drop(parse(&text));
    }
}

#[test]
fn documentation_names_everything_that_is_left_out_by_default() {
    let text = include_str!("../../docs/config.md");
    for pattern in relstore_builder::exclude::defaults() {
        assert!(text.contains(&format!("`{pattern}`")), "{pattern}");
    }
}

#[test]
fn patterns_that_mean_nothing_are_found_with_all_other_mistakes() {
    assert_eq!(
        problems(
            "app = \"a\"\n[build]\nexclude = [\"docs/\", \"/top\", \"**/*.md\", \"a/**/b\", \"../a\"]\n[gates]\nof = []\n"
        ),
        [
            "3:40: build.exclude[3]: \"a/**/b\" has `**` elsewhere than in `**/` at its beginning",
            "3:50: build.exclude[4]: \"../a\" has `.` or `..` in it",
            "5:1: gates.of: unknown key, did you mean `off`?",
        ]
    );
}

#[test]
fn gates_are_set_allowed_and_added() {
    let config = parse(
        "app = \"a\"\n[gates]\noff = [\"vite-manifest\", \"style\"]\nwarn = [\"php-syntax\"]\nrefuse = [\"env-outside-config\"]\n\
         allow = [{ gate = \"secrets\", path = \"config/*.pem\", reason = \" for ${STAGE} \" }]\n\
         [gates.command]\nstyle = \"vendor/bin/pint --test\"\nlint = \"php 'a b.php'\"\n",
    )
    .unwrap();
    let gates = &config.gates;
    assert_eq!(gates.off, ["vite-manifest", "style"]);
    assert_eq!((gates.warn.len(), gates.refuse.len()), (1, 1));
    assert_eq!(gates.allow[0].reason, "for beta");
    assert_eq!(gates.commands[0].name, "lint");
    assert_eq!(gates.commands[0].words, ["php", "a b.php"]);
    assert_eq!(gates.unknown(), None);
}

#[test]
fn mistakes_about_gates_are_named_where_they_stand() {
    assert_eq!(
        problems(
            "app = \"a\"\n[gates]\noff = [\"assets\"]\nwarn = [\"artisan\", \"assets\"]\nrefuse = [\"secret\"]\n\
             allow = [{ gate = \"secrets\", path = \"a\" }, { gate = \"config\", path = \"a//b\", reason = \" \" }]\n\
             [gates.command]\napp = \"true\"\nUpper = \"a | b\"\n"
        ),
        [
            "4:9: gates.warn[0]: \"artisan\" is a gate of structure, which hosts insist on: it can only be off",
            "4:20: gates.warn[1]: \"assets\" stands in two of off, warn and refuse",
            "5:11: gates.refuse[0]: \"secret\" is no gate, did you mean `secrets`?",
            "6:10: gates.allow[0].reason: is missing",
            "6:53: gates.allow[1].gate: \"config\" finds nothing that could be allowed by its path",
            "6:70: gates.allow[1].path: \"a//b\" has an empty name in it",
            "6:87: gates.allow[1].reason: \" \" must say why, it is recorded with the release",
            "8:7: gates.command.app: is the name of a gate that is there already",
            "9:9: gates.command.Upper: must have a name of a-z, 0-9 and `-` that begins with a letter, at most 40",
            "9:9: gates.command.Upper: \"a | b\" holds `|`, but no shell runs it, write sh -c '...' if you need one",
        ]
    );
}
