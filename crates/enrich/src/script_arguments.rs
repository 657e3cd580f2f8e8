//! Which of an interpreter's arguments is its script: each interpreter's options, as its manual has them.

use model::{Text, event::Stdio, limits::SCRIPT_ARGUMENTS_MAX};

use crate::file_kind::Interpreter;

/// busybox's names of its shell.
const BUSYBOX_SHELLS: &[&[u8]] = &[b"sh", b"ash", b"hush", b"bash"];

/// What an interpreter reads without a script among its arguments.
pub(crate) const STANDARD_INPUT: &str = "/dev/stdin";

/// Options of the dynamic loader (glibc and musl) whose value is the next argument.
const LOADER_OPTIONS: &[&[u8]] = &[
    b"--argv0",
    b"--audit",
    b"--glibc-hwcaps-mask",
    b"--glibc-hwcaps-prepend",
    b"--inhibit-rpath",
    b"--library-path",
    b"--preload",
];

/// What the dynamic loader was told to run, and its arguments.
pub(crate) fn of_loaded_program(args: &[Text]) -> &[Text] {
    let mut rest = args.get(1..).unwrap_or_default();
    loop {
        rest = match rest {
            [option, program @ ..] if option.as_bytes() == b"--" => return program,
            [option, _, rest @ ..] if LOADER_OPTIONS.contains(&option.as_bytes()) => rest,
            [option, rest @ ..] if option.as_bytes().starts_with(b"--") => rest,
            program => return program,
        };
    }
}

/// The arguments that may name the script, the likeliest first; [`STANDARD_INPUT`] when that is a file and none names one; none
/// when an option says that there is no script file.
///
/// Options whose value is the next argument are known from each interpreter's manual. There are always more, and a script
/// behind one that is not known would be hidden: once there is an option, other arguments may be the script as well.
pub(crate) fn candidates(interpreter: Interpreter, args: &[Text], stdin: &Stdio) -> Vec<Text> {
    let Some(args) = own_arguments(interpreter, args) else {
        return Vec::new();
    };
    let input = (*stdin == Stdio::File).then(|| Text::from(STANDARD_INPUT));
    let likeliest = match find(interpreter, args) {
        Found::Program => return Vec::new(),
        Found::Input => return input.into_iter().collect(),
        Found::Nothing => input,
        Found::File(file) => Some(file),
    };
    let others = args.iter().take(SCRIPT_ARGUMENTS_MAX);
    let others = others.filter_map(|arg| match arg.as_bytes() {
        [b'-', b'-', rest @ ..] => {
            let value = rest.splitn(2, |&byte| byte == b'=').nth(1)?;
            Some(Text::from(value))
        }
        b"" | [b'-', ..] => None,
        _ => Some(arg.clone()),
    });
    let mut candidates: Vec<Text> = Vec::new();
    for candidate in likeliest.into_iter().chain(others) {
        if !candidate.is_empty() && !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    candidates
}

/// The first argument is the script, since no option comes before it.
pub(crate) fn is_first(interpreter: Interpreter, args: &[Text], candidate: &Text) -> bool {
    own_arguments(interpreter, args).and_then(<[Text]>::first) == Some(candidate)
}

/// What comes after the interpreter's name. `None` when it is not run as an interpreter.
fn own_arguments(interpreter: Interpreter, args: &[Text]) -> Option<&[Text]> {
    let mut args = args;
    if interpreter == Interpreter::Busybox {
        let mut name = args.first()?.file_name();
        if name.starts_with(b"busybox") {
            args = args.get(1..)?;
            name = args.first()?.file_name();
        }
        // A login shell's name begins with a dash.
        if !BUSYBOX_SHELLS.contains(&name.strip_prefix(b"-").unwrap_or(name)) {
            return None;
        }
    }
    args.get(1..)
}

enum Found {
    /// The script, as far as the options are known.
    File(Text),
    /// A program text or a module: no file.
    Program,
    /// Standard input.
    Input,
    /// The arguments ended before.
    Nothing,
}

fn find(interpreter: Interpreter, args: &[Text]) -> Found {
    let file = |arg: Option<&Text>| arg.cloned().map_or(Found::Nothing, Found::File);
    let options = Options::of(interpreter);
    let is_shell = matches!(interpreter, Interpreter::Shell | Interpreter::Busybox);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        match bytes {
            b"--" => return file(rest.next()),
            b"-" if is_shell => return file(rest.next()),
            b"-" => return Found::Input,
            b"" => return Found::Program,
            [b'-', b'-', ..] => {
                if options
                    .long_programs
                    .iter()
                    .any(|name| is_long_option(bytes, name))
                {
                    return Found::Program;
                }
                if options.long_with_value.contains(&bytes) {
                    rest.next();
                }
            }
            [sign @ (b'-' | b'+'), letters @ ..] => {
                if *sign == b'+' && !is_shell {
                    return file(Some(arg));
                }
                match short_options(&options, letters) {
                    Short::Program => return Found::Program,
                    Short::Input => return Found::Input,
                    Short::File(Some(attached)) => return Found::File(Text::from(attached)),
                    Short::File(None) => return file(rest.next()),
                    Short::ValueFollows => {
                        rest.next();
                    }
                    Short::Flags => {}
                }
            }
            _ => return file(Some(arg)),
        }
    }
    Found::Nothing
}

/// How one interpreter reads options.
#[derive(Default)]
struct Options {
    /// What follows is a program text or a module, not a file (`-c`, `-e`, `-m`), or nothing is run at all.
    programs: &'static [u8],
    /// The script is standard input.
    inputs: &'static [u8],
    /// Its value is the next argument, or the rest of this one.
    with_value: &'static [u8],
    /// Its value, if any, is the rest of this argument.
    attached: &'static [u8],
    /// Its value is the script.
    files: &'static [u8],
    long_programs: &'static [&'static [u8]],
    long_with_value: &'static [&'static [u8]],
}

impl Options {
    fn of(interpreter: Interpreter) -> Self {
        match interpreter {
            Interpreter::Shell | Interpreter::Busybox => Self {
                programs: b"c",
                inputs: b"s",
                with_value: b"oO",
                long_programs: &[b"--command", b"--help", b"--version"],
                long_with_value: &[b"--rcfile", b"--init-file"],
                ..Self::default()
            },
            Interpreter::Python => Self {
                programs: b"cmhV?",
                with_value: b"WXQ",
                long_programs: &[b"--version", b"--help"],
                long_with_value: &[b"--check-hash-based-pycs"],
                ..Self::default()
            },
            Interpreter::Perl => Self {
                programs: b"eEvV",
                with_value: b"I",
                // `:` and `=` as in `-d:Trace`.
                attached: b"xiFmMCD:=",
                long_programs: &[b"--version", b"--help"],
                ..Self::default()
            },
            Interpreter::Ruby => Self {
                programs: b"eh",
                with_value: b"rIECX",
                attached: b"xiFKTW",
                long_programs: &[b"--version", b"--help", b"--copyright"],
                long_with_value: &[
                    b"--encoding",
                    b"--external-encoding",
                    b"--internal-encoding",
                    b"--enable",
                    b"--disable",
                    b"--dump",
                    b"--parser",
                    b"--crash-report",
                ],
                ..Self::default()
            },
            Interpreter::Node => Self {
                programs: b"epvh",
                with_value: b"rC",
                long_programs: &[b"--eval", b"--print", b"--version", b"--help"],
                long_with_value: &[
                    b"--conditions",
                    b"--diagnostic-dir",
                    b"--disable-warning",
                    b"--dns-result-order",
                    b"--env-file",
                    b"--experimental-loader",
                    b"--icu-data-dir",
                    b"--import",
                    b"--input-type",
                    b"--loader",
                    b"--max-http-header-size",
                    b"--openssl-config",
                    b"--redirect-warnings",
                    b"--require",
                    b"--title",
                    b"--trace-event-categories",
                    b"--unhandled-rejections",
                ],
                ..Self::default()
            },
            Interpreter::Php => Self {
                programs: b"rBREamiv",
                with_value: b"dcztS",
                files: b"fF",
                long_programs: &[
                    b"--run",
                    b"--interactive",
                    b"--version",
                    b"--help",
                    b"--process-begin",
                    b"--process-code",
                    b"--process-end",
                ],
                long_with_value: &[
                    b"--define",
                    b"--docroot",
                    b"--php-ini",
                    b"--server",
                    b"--zend-extension",
                ],
                ..Self::default()
            },
            Interpreter::Lua => Self {
                with_value: b"el",
                ..Self::default()
            },
            Interpreter::Tcl => Self::default(),
        }
    }
}

enum Short<'a> {
    Flags,
    ValueFollows,
    Program,
    Input,
    File(Option<&'a [u8]>),
}

/// One argument of joined single-letter options.
fn short_options<'a>(options: &Options, letters: &'a [u8]) -> Short<'a> {
    let mut found = Short::Flags;
    for (at, letter) in letters.iter().enumerate() {
        let rest = letters.get(at + 1..).filter(|rest| !rest.is_empty());
        if options.programs.contains(letter) {
            return Short::Program;
        }
        if options.files.contains(letter) {
            return Short::File(rest);
        }
        if options.with_value.contains(letter) {
            return if rest.is_some() {
                found
            } else {
                Short::ValueFollows
            };
        }
        if options.attached.contains(letter) {
            return found;
        }
        if options.inputs.contains(letter) {
            found = Short::Input;
        }
    }
    found
}

fn is_long_option(arg: &[u8], name: &[u8]) -> bool {
    arg.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: Interpreter, line: &str) -> Option<String> {
        let args: Vec<Text> = line.split(' ').map(Text::from).collect();
        let file = find(interpreter, own_arguments(interpreter, &args)?);
        match file {
            Found::File(file) => Some(file.to_string()),
            Found::Program | Found::Input | Found::Nothing => None,
        }
    }

    #[test]
    fn no_option_hides_a_file() {
        use Interpreter::*;
        for (interpreter, line, expected) in [
            (Perl, "perl -Z /lib x.pl", &["/lib", "x.pl"][..]),
            (Node, "node --new v x.js", &["v", "x.js"]),
            (Node, "node --require=./a.js x.js", &["x.js", "./a.js"]),
            (Php, "php -fx.php", &["x.php"]),
            (Ruby, "ruby -r x.rb", &["x.rb"]),
            (Python, "python3 x.py a", &["x.py", "a"]),
            (Shell, "sh -c x.sh a", &[]),
            (Busybox, "busybox cat x", &[]),
        ] {
            let args: Vec<Text> = line.split(' ').map(Text::from).collect();
            let found = candidates(interpreter, &args, &Stdio::Device);
            let expected: Vec<Text> = expected.iter().map(|&text| text.into()).collect();
            assert_eq!(found, expected, "{line}");
        }
        let many: Vec<Text> = (0..100_000).map(|at| Text::from(format!("{at}"))).collect();
        assert!(candidates(Shell, &many, &Stdio::File).len() <= SCRIPT_ARGUMENTS_MAX);
        let line = ["python3", "x.py", "a"].map(Text::from);
        assert!(is_first(Python, &line, &line[1]) && !is_first(Python, &line, &line[2]));
    }

    #[test]
    fn without_a_script_it_is_read_from_standard_input() {
        use Interpreter::*;
        for (interpreter, line, expected) in [
            (Shell, "sh", &["/dev/stdin"][..]),
            (Shell, "bash -s a b", &["/dev/stdin"]),
            (Shell, "bash -o errexit", &["/dev/stdin", "errexit"]),
            (Shell, "sh -", &["/dev/stdin"]),
            (Shell, "sh - x", &["x"]),
            (Shell, "sh -sc x", &[]),
            (Shell, "sh x", &["x"]),
            (Busybox, "busybox sh", &["/dev/stdin"]),
            (Busybox, "busybox cat", &[]),
            (Python, "python3 -", &["/dev/stdin"]),
            (Python, "python3 -m http.server", &[]),
            (Perl, "perl -w", &["/dev/stdin"]),
        ] {
            let args: Vec<Text> = line.split(' ').map(Text::from).collect();
            let found = candidates(interpreter, &args, &Stdio::File);
            let expected: Vec<Text> = expected.iter().map(|&text| text.into()).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn the_loaders_own_options_come_before_the_program() {
        for (line, expected) in [
            ("ld.so /bin/sh x", "/bin/sh x"),
            ("ld.so --argv0 sh --inhibit-cache /bin/sh -e", "/bin/sh -e"),
            ("ld.so --library-path=/lib -- /bin/sh x", "/bin/sh x"),
            ("ld.so --library-path /lib sh", "sh"),
            ("ld.so --argv0", ""),
            ("ld.so", ""),
        ] {
            let args: Vec<Text> = line.split(' ').map(Text::from).collect();
            let found: Vec<String> = of_loaded_program(&args)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn options_are_skipped_and_programs_in_arguments_are_no_files() {
        use Interpreter::*;
        for (interpreter, line, expected) in [
            (Shell, "sh x.sh a b", Some("x.sh")),
            (Shell, "bash -e ./x -c", Some("./x")),
            (Shell, "bash -euo pipefail x", Some("x")),
            (Shell, "bash +x -o errexit -- -x", Some("-x")),
            (Shell, "bash --norc --rcfile r x", Some("x")),
            (Shell, "sh -c x.sh", None),
            (Shell, "sh -ec x.sh", None),
            (Shell, "sh -s x", None),
            (Shell, "sh", None),
            (Shell, "-bash", None),
            (Busybox, "busybox sh x", Some("x")),
            (Busybox, "/bin/busybox ash -x x", Some("x")),
            (Busybox, "sh x", Some("x")),
            (Busybox, "busybox cat x", None),
            (Busybox, "ls x", None),
            (Python, "python3 -u -W ignore x.py", Some("x.py")),
            (Python, "python3 -Wignore -Es x.py", Some("x.py")),
            (Python, "python3 -m http.server", None),
            (Python, "python3 -c print(1)", None),
            (Python, "python3 -", None),
            (Perl, "perl -w -I/lib -MPOSIX x.pl", Some("x.pl")),
            (Perl, "perl -ne print x", None),
            (Perl, "perl -I /lib x.pl", Some("x.pl")),
            (Perl, "perl -I -e x.pl", Some("x.pl")),
            (Perl, "perl -xe x.pl", Some("x.pl")),
            (Perl, "perl -ie x.pl", Some("x.pl")),
            (Perl, "perl -d:e x.pl", Some("x.pl")),
            (Perl, "perl -le print", None),
            (Ruby, "ruby -x x.rb", Some("x.rb")),
            (Ruby, "ruby -T x.rb", Some("x.rb")),
            (Ruby, "ruby -Ke x.rb", Some("x.rb")),
            (Ruby, "ruby --enable jit x.rb", Some("x.rb")),
            (Ruby, "ruby -v x.rb", Some("x.rb")),
            (
                Python,
                "python3 --check-hash-based-pycs always x.py",
                Some("x.py"),
            ),
            (Node, "node --title t x.js", Some("x.js")),
            (Lua, "lua -v x.lua", Some("x.lua")),
            (Ruby, "ruby -r json -w x.rb", Some("x.rb")),
            (Node, "node --require a.js x.js", Some("x.js")),
            (Node, "node --eval=1 x.js", None),
            (Php, "php -d a=b -f x.php", Some("x.php")),
            (Php, "php -r code x", None),
            (Lua, "lua -l mod x.lua", Some("x.lua")),
            (Tcl, "tclsh x.tcl", Some("x.tcl")),
        ] {
            assert_eq!(script(interpreter, line).as_deref(), expected, "{line}");
        }
    }
}
