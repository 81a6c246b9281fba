"""What the user has written down: definitions, atlas.yaml, the environment, and how they are layered.

keys, scalars, yaml_source, yaml_text     a file's text to values with their lines, and back
layers, environment, references          who set which key; `${env:...}` and its like
fields, stream, definition, settings      the pydantic models
problems, secrecy, annotations           what is wrong in words; what is never shown
stored_secrets, secret_names, exposure   secrets taken out of definitions, and files that must be private
secret_references                         which stored secrets a project needs
folder, definitions, stream_names, edit, atomic, older_form     connectors.d/
project, connection, uri                  atlas.yaml and the values of one connection
schema, show                             for editors and for `config show`

Nothing is imported here: shell completion needs `folder`, `project_folder` and `secret_references`, which
load neither pydantic nor PyYAML, and for streams `stream_names`, which loads no pydantic.
"""
