//! Writes the man pages and the shell completions of `pannier` into a directory. They are made from
//! the definition of the command line, and add nothing to the binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use runtime::cli::Cli;

/// Shells that get completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Sections of `pannier(1)` that don't follow from the definition of the command line.
const MORE: &str = r#".SH "EXIT STATUS"
.TP
\fB0\fR
It did what was asked.
.TP
\fB1\fR
It failed; the last line on standard error says why.
.TP
\fB2\fR
The command line is wrong.
.TP
\fB78\fR
The configuration is wrong: every error is named with its file, its line and a remedy.
.SH FILES
.TP
\fI/etc/pannier/\fR
The resources that the system's service reads.
.TP
\fI/var/lib/pannier/\fR
What the system's service keeps.
.TP
\fI~/.local/share/pannier/\fR
What is kept where nothing says otherwise.
.SH ENVIRONMENT
.TP
\fBSTATE_DIRECTORY\fR, \fBXDG_DATA_HOME\fR, \fBHOME\fR
The first that is set says where data is kept without \fB\-\-data\-dir\fR.
.TP
\fBDAPR_API_TOKEN\fR, \fBAPP_API_TOKEN\fR
What the app of the command line must present, and what is presented to it.
"#;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: manual DIR: writes DIR/man and DIR/completions");
        return ExitCode::from(2);
    };
    match write(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} can't be written: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes all pages and completions below `dir`.
fn write(dir: &Path) -> std::io::Result<()> {
    let man = dir.join("man");
    let completions = dir.join("completions");
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for command in commands() {
        let name = page_name(&command);
        fs::write(man.join(format!("{name}.1")), page(&command)?)?;
    }
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "pannier", &completions)?;
    }
    Ok(())
}

/// Returns `pannier` and each of its subcommands.
fn commands() -> Vec<Command> {
    let mut pannier = Cli::command().disable_help_subcommand(true);
    pannier.build();
    let mut all: Vec<Command> = pannier.get_subcommands().cloned().collect();
    all.insert(0, pannier);
    all
}

/// Returns the page's name: `pannier`, `pannier-run` and so on.
fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = format!("pannier {}", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).render(&mut page)?;
    if command.has_subcommands() {
        page.extend_from_slice(MORE.as_bytes());
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Returns the flags of a command that its help shows.
    fn flags(command: &Command) -> Vec<String> {
        let shown = command.get_arguments().filter(|flag| !flag.is_hide_set());
        shown.filter_map(|flag| flag.get_long()).map(str::to_owned).collect()
    }

    #[test]
    fn each_page_names_every_flag_of_its_command() {
        for command in commands() {
            let page = String::from_utf8(page(&command).unwrap()).unwrap();
            for flag in flags(&command) {
                let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
                assert!(page.contains(&written), "{}: --{flag}", page_name(&command));
            }
        }
    }

    #[test]
    fn each_shell_completes_every_flag_of_every_command() {
        for shell in SHELLS {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pannier", &mut script);
            let script = String::from_utf8(script).unwrap();
            let commands = commands();
            for flag in commands.iter().flat_map(flags) {
                let written =
                    if shell == Shell::Fish { format!("-l {flag}") } else { format!("--{flag}") };
                assert!(script.contains(&written), "{shell}: --{flag}");
            }
            for command in &commands[1..] {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn the_main_page_names_the_status_of_a_wrong_configuration_and_the_files() {
        let whole = String::from_utf8(page(&commands()[0]).unwrap()).unwrap();
        for part in [".SH \"EXIT STATUS\"", "\\fB78\\fR", "/etc/pannier/", "/var/lib/pannier/"] {
            assert!(whole.contains(part), "{part}");
        }
    }
}
