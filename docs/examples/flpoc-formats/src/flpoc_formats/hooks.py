"""What this plugin offers."""

from flpoc import Component, hookimpl

FLPOC_API = 1


@hookimpl
def flpoc_formatters():
    yield Component("yaml", "The envelope of json as YAML", _yaml)
    yield Component("csv", "Comma-separated values for spreadsheets", _csv)


def _yaml(settings):
    from flpoc_formats.as_yaml import YamlFormatter

    return YamlFormatter()


def _csv(settings):
    from flpoc_formats.as_csv import CsvFormatter

    return CsvFormatter()
