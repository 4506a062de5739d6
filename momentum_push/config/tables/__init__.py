"""The rows of the option table, by area; `config.options` joins them and is the only reader."""
