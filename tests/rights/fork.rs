//! Taking functions of the server away, as managed services and forks do, or making them slow: each goes back when the
//! test ends.

use dbtriage_lab::{Client, Postgres};

use super::superuser;

/// Functions that have been put aside; they come back when this is dropped.
pub(crate) struct Fork {
    system: Client,
    schema: &'static str,
    aside: Vec<(&'static str, &'static str)>,
    made: Vec<String>,
}

impl Fork {
    pub(crate) fn of(server: &Postgres) -> Self {
        Self::within(server, "pg_catalog")
    }

    /// Of the functions of a schema of the database that the superuser works in.
    pub(crate) fn within(server: &Postgres, schema: &'static str) -> Self {
        let system = superuser(server);
        system.execute("SET allow_system_table_mods = on").unwrap();
        Self { system, schema, aside: Vec::new(), made: Vec::new() }
    }

    /// Takes a function away: name and arguments.
    pub(crate) fn without(mut self, name: &'static str, arguments: &'static str) -> Self {
        let sql = format!("ALTER FUNCTION {}.{name}({arguments}) RENAME TO {name}_aside", self.schema);
        self.system.execute(&sql).unwrap();
        self.aside.push((name, arguments));
        self
    }

    /// Replaces functions by ones that say that they are not supported.
    pub(crate) fn unsupported(self, names: &[&'static str]) -> Self {
        names.iter().fold(self, |fork, name| fork.refuse(name))
    }

    fn refuse(mut self, name: &'static str) -> Self {
        let result = self.columns(name, "").map_or_else(
            || {
                self.system
                    .cell(&format!("SELECT prorettype::regtype FROM pg_proc WHERE proname = '{name}'"))
                    .unwrap()
            },
            |(table, _)| format!("TABLE ({table})"),
        );
        self = self.without(name, "");
        self.make(&format!(
            "{name}() RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = \
             'feature_not_supported', MESSAGE = '{}'; END $$",
            refusal(name)
        ));
        self.made.push(format!("{name}()"));
        self
    }

    /// Replaces a function that returns rows by one whose rows lack a column.
    pub(crate) fn without_column(self, name: &'static str, arguments: &'static str, column: &str) -> Self {
        self.replace(name, arguments, column, "")
    }

    /// Makes a function that returns rows take so long.
    pub(crate) fn slow(self, name: &'static str, arguments: &'static str, seconds: f64) -> Self {
        self.replace(name, arguments, "", &format!(", pg_sleep({seconds})"))
    }

    /// Replaces a function by one without a column, that reads `beside` too.
    fn replace(mut self, name: &'static str, arguments: &'static str, column: &str, beside: &str) -> Self {
        let (table, names) = self.columns(name, column).unwrap();
        self = self.without(name, arguments);
        let (schema, given) = (self.schema, if arguments.is_empty() { "" } else { "$1" });
        self.make(&format!(
            "{name}({arguments}) RETURNS TABLE ({table}) LANGUAGE sql AS \
             $$ SELECT {names} FROM {schema}.{name}_aside({given}){beside} $$"
        ));
        self.made.push(format!("{name}({arguments})"));
        self
    }

    fn make(&self, function: &str) {
        self.system.execute(&format!("CREATE FUNCTION {}.{function}", self.schema)).unwrap();
    }

    /// The columns of a function but one: with their types, and their names alone. `None` where it has none.
    fn columns(&self, name: &str, except: &str) -> Option<(String, String)> {
        let list = |what: &str| {
            let sql = format!(
                "SELECT string_agg({what}, ', ') FROM pg_proc, \
                 unnest(proargnames, proallargtypes, proargmodes) AS it(n, t, m) \
                 WHERE proname = '{name}' AND m = 'o' AND n <> '{except}'"
            );
            self.system.rows(&sql).unwrap()[0][0].clone()
        };
        list("quote_ident(n) || ' ' || t::regtype").zip(list("quote_ident(n)"))
    }
}

/// What a replaced function says.
pub(crate) fn refusal(name: &str) -> String {
    format!("Function {name}() is currently not supported for Aurora")
}

impl Drop for Fork {
    fn drop(&mut self) {
        for function in &self.made {
            self.system.execute(&format!("DROP FUNCTION {}.{function}", self.schema)).ok();
        }
        for (name, arguments) in &self.aside {
            let sql = format!("ALTER FUNCTION {}.{name}_aside({arguments}) RENAME TO {name}", self.schema);
            self.system.execute(&sql).ok();
        }
    }
}
