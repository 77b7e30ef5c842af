// SPDX-License-Identifier: Apache-2.0
package main

import (
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("AETHER_TRIGGER_PORT"))
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(answer, "{\"language\": \"go\", \"pid\": %d, \"random\": %d}\n", os.Getpid(), rand.Int63())
	})
	aether, err := net.Dial("unix", os.Getenv("AETHER_SOCKET"))
	if err != nil {
		panic(err)
	}
	aether.Write([]byte("READY"))
	panic(http.Serve(listener, nil))
}
