#!/bin/sh
# Builds kube-apiserver for `record.py` into the folder $1, from the Go module proxy alone; about four minutes. The tests do not
# need it: they read what was recorded.
set -eu
version=1.34.4
folder=$1
mkdir -p "$folder"
cd "$folder"
test ! -x kube-apiserver || exit 0
# The staging modules of Kubernetes are v0.0.0 in its go.mod and have a number of their own when they are published.
go mod download "k8s.io/kubernetes@v$version"
{
    printf 'module tools\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$version"
    sed -n 's/^[[:space:]]*\(k8s\.io\/[a-z-]*\) v0\.0\.0\( .*\)\{0,1\}$/\1/p' "$(go env GOMODCACHE)/k8s.io/kubernetes@v$version/go.mod" |
        sort -u | sed "s/.*/\t& => & v0.${version#1.}/"
    printf ')\n'
} >go.mod
cat >tools.go <<'GO'
//go:build tools

package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
GO
go mod tidy
# Without a version, clients cannot parse what /version answers.
set=-X=k8s.io/component-base/version.git
go build -o kube-apiserver -ldflags "-s -w ${set}Version=v$version ${set}Major=1 ${set}Minor=34 \
    -X=k8s.io/client-go/pkg/version.gitVersion=v$version" k8s.io/kubernetes/cmd/kube-apiserver
