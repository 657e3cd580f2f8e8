//! The filter language of SCC: text to tree. Pure: no database, bounded in length and depth.
//!
//! ```text
//! filter      = [ expression ]
//! expression  = sequence { "AND" sequence }
//! sequence    = factor { factor }                     side by side means AND
//! factor      = term { "OR" term }                    OR binds tighter than AND
//! term        = [ "NOT" | "-" ] ( "(" expression ")" | function | comparison )
//! function    = ( "contains" | "containsOnly" ) "(" field "," expression ")"
//!             | "inIpRange" "(" field "," string ")"
//! comparison  = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) value
//! field       = name { "." ( name | string ) }        snake_case or camelCase
//! value       = string | integer | "true" | "false" | "*" | word
//! ```
//!
//! A grammar after AIP-160 (<https://google.aip.dev/160>), without its bare literals. Keywords are upper case.

mod condition;
mod parser;
mod test;
mod tree;

pub(crate) use condition::{Condition, Element, compile, to_v6};
pub use parser::parse;
pub(crate) use parser::{field_path, push_snake_case};
pub(crate) use test::Test;
pub use tree::{Comparison, Expression, Operator, Value};

/// Bytes of one filter. The longest in SCC's own documentation is below 500.
pub const FILTER_BYTES_MAX: usize = 16 * 1024;

/// Parentheses and functions within each other. Bounds the stack.
pub const DEPTH_MAX: usize = 32;

/// Comparisons of one filter. Bounds the SQL, which SQLite limits to a depth of 1,000.
pub const COMPARISONS_MAX: usize = 200;

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, position {position}: {message}")]
pub struct Error {
    /// Byte offset into the filter text.
    pub position: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Error {
    pub(crate) fn new(position: usize, message: impl Into<String>) -> Self {
        Self {
            position,
            message: message.into(),
        }
    }
}

/// The fields that a filter names outside functions, and the repeated fields that functions look into.
pub(crate) fn fields_of(expression: &Expression) -> Vec<&str> {
    match expression {
        Expression::And(parts) | Expression::Or(parts) => {
            parts.iter().flat_map(fields_of).collect()
        }
        Expression::Not(inner) => fields_of(inner),
        Expression::Comparison(comparison) => vec![&comparison.field],
        Expression::Contains { field, .. } | Expression::InIpRange { field, .. } => vec![field],
    }
}

/// Reads a filter and checks its fields, operators and values, as a query with it would.
pub fn check(text: &str) -> Result<(), Error> {
    compile(&parse(text)?).map(|_| ())
}
