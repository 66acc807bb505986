#!/bin/sh
# Fills /etc/nginx/templates/*.template with the environment and puts the results into /etc/nginx/conf.d.
set -eu

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

[ -d "$templates" ] || exit 0
[ -w "$output" ] || { echo "$0: $output is not writable, ignoring $templates" >&2; exit 0; }

# Only variables that exist are replaced: nginx's own begin with a $ too.
# shellcheck disable=SC2016 # a literal ${ is wanted
names=$(awk 'BEGIN { for (name in ENVIRON) if (name ~ /^[A-Za-z_][A-Za-z0-9_]*$/) printf "${%s} ", name }')

find -L "$templates" -type f -name "*$suffix" | sort | while IFS= read -r template; do
    relative=${template#"$templates"/}
    target=$output/${relative%"$suffix"}
    mkdir -p "$(dirname "$target")"
    envsubst "$names" < "$template" > "$target"
done
