//! Arguments -> Config -> Server.
use exedra::config::{self, ConfigError, Invocation, RecordingsAction};
use exedra::recordings::compose::{self, Stop};
use exedra::recordings::tool;
use exedra::{server, signal};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Exit codes of the server: 0 after a drain, 1 when the server cannot start, 2 for a mistake in the configuration.
fn main() -> ExitCode {
    // A variable that is not UTF-8 is none of ours.
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match config::load(std::env::args_os(), env) {
        Ok(Invocation::Serve(config)) => serve(*config),
        Ok(Invocation::Token { secret, mut claims, lifetime }) => {
            claims.exp = signal::wall_ms() / 1000 + lifetime.as_secs();
            report(signal::auth::sign(&secret, &claims).map(|token| println!("{token}")))
        }
        Ok(Invocation::Recordings { root, action }) => recordings(&root, action),
        Ok(Invocation::Compose(request)) => compose(&request),
        Err(ConfigError::Clap(error)) => error.exit(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Exit codes: 0 when it is there, 1 when it cannot be made, 130 when it was interrupted.
fn compose(request: &compose::Request) -> ExitCode {
    let stop = match Stop::on_signals() {
        Ok(stop) => stop,
        Err(error) => return report(Err(error)),
    };
    match compose::compose(request, std::io::stderr().is_terminal(), &stop) {
        Ok(made) => {
            made.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            println!("{}: {made}", request.out.display());
            ExitCode::SUCCESS
        }
        Err(error @ compose::Error::Interrupted) => {
            eprintln!("{error}");
            ExitCode::from(130)
        }
        Err(error) => report(Err(error)),
    }
}

/// Exit code 1 also when something could not be healed.
fn recordings(root: &Path, action: RecordingsAction) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let done = match action {
        RecordingsAction::List => tool::list(root, signal::wall_ms(), &mut out).map(|()| true),
        RecordingsAction::Heal => tool::heal(root, &mut out),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => report(Err(format!("{}: {error}", root.display()))),
    }
}

fn serve(config: config::Config) -> ExitCode {
    let filter = EnvFilter::new(&config.log);
    let color = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).init();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(server::run(config));
            // Whatever still runs after a second signal is not waited for.
            runtime.shutdown_background();
            report(ended)
        }
        Err(error) => report(Err(error)),
    }
}

fn report<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
