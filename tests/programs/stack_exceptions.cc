// Allocates below C++ frames: containers, algorithms, virtual calls, regular expressions, functions
// that throw, landing pads and destructors that run while the stack is unwound.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Shape {
    virtual ~Shape() = default;
    virtual std::string name(int depth) const = 0;
};

struct Circle : Shape {
    std::string name(int depth) const override { return "a circle of rather a long name " + std::to_string(depth); }
};

struct Nested : Shape {
    explicit Nested(std::unique_ptr<Shape> inside) : inside(std::move(inside)) {}
    std::string name(int depth) const override { return "nested(" + inside->name(depth + 1) + ")"; }
    std::unique_ptr<Shape> inside;
};

// Allocates when it goes, also when an exception passes.
struct Farewell {
    std::vector<std::string> *words;
    ~Farewell() { words->push_back("farewell to all that was on the stack"); }
};

__attribute__((noinline)) int deep(int depth, std::vector<std::string> *words)
{
    Farewell farewell{words};
    words->push_back("a word that does not fit into the string itself");
    if (depth == 0)
        throw std::runtime_error("the end of the recursion, which is a long text");
    return deep(depth - 1, words) + 1;
}

__attribute__((noinline)) std::size_t rounds(int count)
{
    std::size_t sum = 0;
    for (int i = 0; i < count; i++) {
        std::vector<std::string> words;
        try {
            sum += deep(i % 20, &words);
        } catch (const std::exception &error) {
            words.push_back(error.what());
            sum += words.size();
        }
        std::map<std::string, std::function<std::string(int)>> functions;
        std::shared_ptr<Shape> shape = std::make_shared<Nested>(std::make_unique<Circle>());
        for (const auto &word : words)
            functions[word] = [shape, word](int depth) { return word + shape->name(depth); };
        for (auto &[word, function] : functions)
            sum += function(i).size();
        std::sort(words.begin(), words.end(), [](const std::string &a, const std::string &b) {
            return a + "suffix that allocates a bit" < b + "suffix that allocates a bit";
        });
        std::regex pattern("(a|b)*[a-z]+(word|farewell).*");
        sum += std::count_if(words.begin(), words.end(), [&](const std::string &word) { return std::regex_match(word, pattern); });
    }
    return sum;
}

} // namespace

int main()
{
    std::vector<std::thread> threads;
    std::size_t sums[3] = {};
    for (auto &sum : sums)
        threads.emplace_back([&sum] { sum = rounds(20); });
    std::size_t sum = rounds(40);
    for (auto &thread : threads)
        thread.join();
    return sum + sums[0] == 0;
}
