//! `hullwatch token create|list|revoke`: who may use the API and the review page.

use std::io::Write;

use anyhow::{Context, Result};
use server::auth::{self, Role};

use crate::{
    EXIT_DONE,
    cli::TokenCommand,
    commands::open_store,
    print::{self, Cell},
};

pub(crate) fn run(command: &TokenCommand) -> Result<u8> {
    match command {
        TokenCommand::Create { role, name, state } => {
            let role: Role = role.parse().context("a role is viewer, editor or admin")?;
            let token = auth::create_token(&open_store(&state.state_dir)?, name, role)?;
            writeln!(print::stdout(), "{}", token.secret)?;
        }
        TokenCommand::List { state } => {
            let rows: Vec<_> = auth::list_tokens(&open_store(&state.state_dir)?)?
                .iter()
                .map(|token| {
                    let revoked = token
                        .revoked
                        .map_or_else(|| "-".to_owned(), |time| time.to_string());
                    vec![
                        Cell::new(&token.name),
                        Cell::new(token.role.name()),
                        Cell::new(&token.created.to_string()),
                        Cell::new(&revoked),
                        Cell::new(&token.id),
                    ]
                })
                .collect();
            print::table(
                &mut print::stdout(),
                &["NAME", "ROLE", "CREATED", "REVOKED", "ID"],
                &rows,
            )?;
        }
        TokenCommand::Revoke { name, state } => {
            auth::revoke_token(&open_store(&state.state_dir)?, name)?;
            writeln!(print::stdout(), "revoked {}", print::safe(name))?;
        }
    }
    Ok(EXIT_DONE)
}
