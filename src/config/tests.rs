use super::*;

fn load_from(args: &[&str], env: &[(&str, &str)], file: &str) -> Result<Invocation, ConfigError> {
    let args = std::iter::once("exedra").chain(args.iter().copied()).map(OsString::from);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load_with(args, env, &|path| match path.to_str() {
        Some("exedra.toml") => Ok(file.to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    })
}

fn config(args: &[&str], env: &[(&str, &str)], file: &str) -> Config {
    match load_from(args, env, file) {
        Ok(Invocation::Serve(config)) => *config,
        Ok(other) => panic!("{other:?}"),
        Err(error) => panic!("{error}"),
    }
}

fn mistakes(args: &[&str], env: &[(&str, &str)], file: &str) -> Vec<String> {
    match load_from(args, env, file) {
        Err(ConfigError::Mistakes(mistakes)) => mistakes.iter().map(Mistake::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_defaults_are_a_server_for_this_machine() {
    let c = config(&[], &[], "");
    assert_eq!(c.http, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(c.udp, ["0.0.0.0:7882", "[::]:7882"].map(|a| a.parse::<SocketAddr>().unwrap()));
    assert_eq!(c.access, Access { open: true, ..Access::default() });
    assert_eq!((c.cors, c.drain), (Origins::Any, Duration::from_secs(10)));
    assert!(c.warnings.is_empty());
}

#[test]
fn a_flag_beats_a_variable_beats_the_file() {
    let file = "http = '127.0.0.1:1'\nmax_rooms = 1\ndrain = '1s'\ncors_origin = ['https://a.example']";
    let env = [("EXEDRA_HTTP", "127.0.0.1:2"), ("EXEDRA_MAX_ROOMS", "2"), ("EXEDRA_CONFIG", "exedra.toml")];
    let c = config(&["--http", "localhost:3"], &env, file);
    assert_eq!((c.http.port(), c.limits.rooms, c.drain), (3, 2, Duration::from_secs(1)));
    assert_eq!(c.cors, Origins::Only(vec![Origin::try_from("https://a.example").unwrap()]));
}

#[test]
fn lists_come_from_everywhere() {
    let two = ["127.0.0.1:1", "[::1]:2"].map(|a| a.parse::<SocketAddr>().unwrap());
    assert_eq!(config(&["--udp", "127.0.0.1:1", "--udp", "[::1]:2"], &[], "").udp, two);
    assert_eq!(config(&[], &[("EXEDRA_UDP", "127.0.0.1:1, [::1]:2")], "").udp, two);
    assert_eq!(config(&["--config", "exedra.toml"], &[], "udp = ['127.0.0.1:1', '[::1]:2']").udp, two);
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let file =
        "htpp = 'x'\nqueue_bytes = 7\nlog = ['info']\nquite_something_else = 1\n[[ice_server]]\nurls = ['http://x']";
    let env = [("EXEDRA_MAX_ROOMS", "many"), ("EXEDRA_ADVERTISE", "example.org")];
    let args =
        ["--http", "nowhere", "--drain", "soon", "--drain", "later", "--secret", "short", "--config", "exedra.toml"];
    let told = mistakes(&args, &env, file);
    for (place, part) in [
        ("--http: ", "\"nowhere\" is not an IP address and a port"),
        ("--drain: ", "more than once"),
        ("--drain: ", "\"soon\" is not a time"),
        ("--secret: ", "at least 16 bytes"),
        ("EXEDRA_MAX_ROOMS: ", "\"many\" is not a number from 1 to 1000000"),
        ("EXEDRA_ADVERTISE: ", "\"example.org\" is not an IP address"),
        ("exedra.toml: htpp: ", "http is meant?"),
        ("exedra.toml: quite_something_else: ", "no such setting"),
        ("exedra.toml: queue_bytes: ", "is not a size"),
        ("exedra.toml: log: ", "takes one value"),
        ("exedra.toml: ice_server: ", "stun:"),
    ] {
        assert!(told.iter().any(|m| m.starts_with(place) && m.contains(part)), "{place}{part}\nin {told:#?}");
    }
    assert_eq!(told.len(), 11, "{told:#?}");
    assert!(!told.iter().any(|m| m.contains("\"short\"")), "a secret is never shown");
}

#[test]
fn a_file_that_cannot_be_read_or_understood() {
    assert!(mistakes(&["--config", "gone.toml"], &[], "")[0].starts_with("--config: gone.toml cannot be read"));
    let told = mistakes(&["--config", "exedra.toml"], &[], "http = '127.0.0.1:1'\nudp = [\nmax_rooms = = 1");
    assert!(told[0].starts_with("exedra.toml, line 3: "), "{told:?}");
}

#[test]
fn rooms_are_open_to_the_machine_itself_only_unless_told() {
    let told = mistakes(&["--http", "0.0.0.0:80"], &[], "");
    assert!(told[0].contains("--secret") && told[0].contains("--open"), "{told:?}");
    assert!(config(&["--http", "0.0.0.0:80", "--open"], &[], "").access.open);
    assert!(config(&["--http", "[::1]:80"], &[], "").access.open);
    let secret = [("EXEDRA_SECRET", "0123456789abcdef")];
    assert!(!config(&["--http", "0.0.0.0:80"], &secret, "").access.open);
    assert!(!config(&[], &secret, "").access.open);
    assert!(config(&["--open"], &secret, "").access.open);
}

#[test]
fn who_may_look_has_a_token_of_their_own() {
    assert_eq!(config(&["--open"], &[], "").admin, None);
    let token = [("EXEDRA_ADMIN_TOKEN", "0123456789abcdef")];
    assert!(config(&[], &token, "").admin.is_some_and(|t| t.is("0123456789abcdef") && !t.is("0123456789abcdeX")));
    let told = mistakes(&["--secret", "0123456789abcdef"], &token, "");
    assert!(told[0].starts_with("EXEDRA_ADMIN_TOKEN: is the --secret"), "{told:?}");
    let told = mistakes(&["--admin-token", "short"], &[], "");
    assert!(told[0].starts_with("--admin-token: is shorter than 16 bytes"), "{told:?}");
}

#[test]
fn guests_may_do_what_they_are_given() {
    assert_eq!(config(&[], &[], "").access.guests, Grants::USUAL);
    let c = config(&["--open-grants", "publish, record"], &[], "");
    let nothing = Grants { publish: false, subscribe: false, say: false, moderate: false, record: false };
    assert_eq!(c.access.guests, Grants { publish: true, record: true, ..nothing });
    assert!(c.warnings.is_empty(), "nobody else finds it");
    let c = config(&["--open-grants", "record", "--open", "--http", "0.0.0.0:80"], &[], "");
    assert_eq!(c.warnings, ["open-grants: anybody who finds this server may record, in any room"]);
    let c = config(&["--open-grants", "say", "--secret", "0123456789abcdef"], &[], "");
    assert_eq!(c.warnings, ["open-grants has no effect: nobody comes in without a token"]);
    let told = mistakes(&["--open-grants", "fly"], &[], "");
    assert!(told[0].starts_with("--open-grants: \"fly\" is none of publish"), "{told:?}");
}

#[test]
fn rooms_that_are_always_recorded_have_names_and_a_place() {
    let c = config(&["--recordings", "/tmp", "--record-rooms", "class-*", "--record-rooms", "demo"], &[], "");
    let always = |name: &str| c.record_rooms.iter().any(|pattern| pattern.matches(name));
    assert_eq!(["class-4b", "demo", "class", "other"].map(always), [true, true, false, false]);
    let told = mistakes(&["--record-rooms", "a b*"], &[("EXEDRA_RECORDINGS", "/tmp")], "");
    assert!(told[0].starts_with("--record-rooms: \"a b*\" "), "{told:?}");
    let told = mistakes(&["--record-rooms", "demo"], &[], "");
    assert!(told[0].contains("--recordings DIR"), "{told:?}");
}

#[test]
fn uploads_go_to_a_bucket_and_need_recordings() {
    let c = config(&["--recordings", "/tmp", "--recordings-upload", "s3://b-1/x/"], &[], "");
    let upload = c.recordings.and_then(|r| r.upload).expect("it is wanted");
    assert_eq!((upload.target.to_string().as_str(), upload.delete), ("s3://b-1/x", false));
    let file = "recordings = '/tmp'\nrecordings_upload = 's3://b-1'\nrecordings_upload_delete = true";
    let c = config(&["--config", "exedra.toml"], &[], file);
    assert!(c.recordings.and_then(|r| r.upload).is_some_and(|u| u.delete));
    let told = mistakes(&["--recordings-upload", "https://b-1.example"], &[], "");
    assert!(told[0].contains("is not s3://BUCKET") && told[1].contains("without --recordings"), "{told:?}");
    let told = mistakes(&["--recordings", "/tmp", "--recordings-upload-delete"], &[], "");
    assert!(told[0].contains("without --recordings-upload"), "{told:?}");
}

#[test]
fn advertised_addresses_have_a_socket() {
    let told = mistakes(&["--udp", "0.0.0.0:1", "--advertise", "2001:db8::1"], &[], "");
    assert!(told[0].contains("no --udp address is IPv6"), "{told:?}");
    let told = mistakes(&["--udp", "0.0.0.0:1", "--udp", "0.0.0.0:1"], &[], "");
    assert!(told[0].contains("given twice"), "{told:?}");
}

#[test]
fn a_misspelt_variable_is_doubted_and_a_foreign_one_is_not() {
    let c = config(&[], &[("EXEDRA_HTPP", "x"), ("EXEDRA_SERVICE_HOST", "10.0.0.1")], "");
    assert_eq!(c.warnings, ["EXEDRA_HTPP is unknown and ignored; EXEDRA_HTTP is meant?"]);
}

#[test]
fn tokens() {
    let args = ["token", "--room", "a", "--name", "Ada", "--secret", "0123456789abcdef", "--expires", "15min"];
    let Ok(Invocation::Token { claims, lifetime, .. }) = load_from(&args, &[], "") else { panic!() };
    assert_eq!((claims.room.as_str(), claims.name.as_deref()), ("a", Some("Ada")));
    assert_eq!(claims.grants.as_deref().map(<[_]>::len), Some(3));
    assert_eq!(lifetime, Duration::from_secs(900));

    let told = mistakes(&["token", "--room", "a b", "--name", "", "--grants", "fly", "--expires", "x"], &[], "");
    assert_eq!(told.len(), 5, "{told:?}");
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let spelt_out: Vec<String> = settings::SETTINGS
        .iter()
        .filter(|s| matches!(s.shape, settings::Shape::One(_)) && s.default != "none")
        .flat_map(|s| [format!("--{}", s.name), s.default.to_owned()])
        .collect();
    let args: Vec<&str> = spelt_out.iter().map(String::as_str).collect();
    assert_eq!(config(&args, &[], ""), config(&[], &[], ""));
}

#[test]
fn the_command_line_is_sound_and_help_names_every_setting() {
    settings::command().debug_assert();
    let help = settings::command().render_long_help().to_string();
    for setting in settings::SETTINGS {
        assert!(
            help.contains(&format!("--{}", setting.name)) && help.contains(&setting.variable()),
            "{}",
            setting.name
        );
    }
}

#[test]
fn recordings_have_a_folder_or_no_settings() {
    let dir = std::env::temp_dir();
    let dir = dir.to_str().unwrap();
    assert_eq!(config(&[], &[], "").recordings, None);
    let kept = config(&["--recordings", dir], &[], "").recordings.unwrap();
    let (day, quota) = (Duration::from_secs(86_400), 500_000_000_000);
    assert_eq!((kept.min_free, kept.quota, kept.keep, kept.queue), (1 << 30, None, None, 64 << 20));
    let file = format!("recordings = '{dir}'\nrecordings_quota = '500GB'\nrecordings_keep = '30d'");
    let kept = config(&["--config", "exedra.toml", "--recordings-keep-bytes", "2TiB"], &[], &file).recordings.unwrap();
    assert_eq!((kept.quota, kept.keep, kept.keep_bytes), (Some(quota), Some(30 * day), Some(2 << 40)));
    let told = mistakes(&["--recordings-keep", "30d", "--recordings-quota", "much"], &[], "");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().any(|m| m.contains("--recordings-keep: has no effect without --recordings DIR")), "{told:?}");
}

#[test]
fn recordings_are_looked_after_by_hand() {
    let dir = std::env::temp_dir();
    let dir = dir.to_str().unwrap();
    for (args, env, want) in [
        (vec!["recordings", "list", "--recordings", dir], vec![], RecordingsAction::List),
        (vec!["recordings", "heal"], vec![("EXEDRA_RECORDINGS", dir)], RecordingsAction::Heal),
    ] {
        let Ok(Invocation::Recordings { root, action }) = load_from(&args, &env, "") else { panic!("{args:?}") };
        assert_eq!((root, action), (PathBuf::from(dir), want));
    }
    assert!(mistakes(&["recordings", "heal"], &[], "")[0].starts_with("--recordings: is missing"));
    assert!(
        mistakes(&["recordings", "heal", "--recordings", "/nowhere/at/all"], &[], "")[0].contains("not a directory")
    );
}
